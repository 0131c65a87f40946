"""What packed weights gain on this processor, for one token and for many: `python -m benchmarks.packed`.

Milliseconds of CPU time on one thread for products with a 3072 x 1024 weight: plain and packed in float32, plain in
bfloat16; the least of some rounds in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from inference.engines.in_process.packed import FEW, packed_product, reordered

TOKENS = (1, 2, FEW, FEW + 1, 8, 12, 24, 64, 222, 888)
PRODUCTS = 16  # weights, more than fit a cache
ROUNDS = 5


def least(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.process_time()
            way()
            times[name].append(1000 * (time.process_time() - started))
    return {name: min(values) for name, values in times.items()}


def main() -> None:
    """Print a line for each number of tokens."""
    torch.set_num_threads(1)
    plain = [nn.Linear(1024, 3072, bias=False).requires_grad_(False) for _ in range(PRODUCTS)]
    packed = [reordered(layer) for layer in plain]
    half = [nn.Linear(1024, 3072, bias=False, dtype=torch.bfloat16).requires_grad_(False) for _ in range(PRODUCTS)]
    print("tokens    plain   packed bfloat16")
    for tokens in TOKENS:
        x = torch.randn(1, tokens, 1024)
        y = x.bfloat16()
        ways: dict[str, Callable[[], object]] = {
            "plain": lambda x=x: [layer(x) for layer in plain],  # type: ignore[misc]
            "packed": lambda x=x: [packed_product(x, weight, None) for weight in packed],  # type: ignore[misc]
            "bfloat16": lambda y=y: [layer(y) for layer in half],  # type: ignore[misc]
        }
        print(f"{tokens:6}", *(f"{value:8.1f}" for value in least(ways).values()))


if __name__ == "__main__":
    main()
