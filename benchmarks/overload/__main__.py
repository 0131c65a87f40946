"""`make bench-overload`: 360 clients, five times the engine's places, at the web process and at nginx before it.

The engine is its own server around a model that sleeps. The figures are medians of five floods, beside their bounds.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.overload.installation import Installation, installed
from benchmarks.overload.load import CLIENTS, Counts, beside, flood, picture

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = 10.0
DEADLINE_S, ROW_S = 10, 0.5
USERS, LARGE = 12, 16


def p95(values: list[float]) -> float:
    """The value that 95% do not exceed."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)] if values else 0.0


def line(name: str, value: float, bound: float, unit: str = "s") -> bool:
    """Print a figure beside its bound; whether it holds."""
    holds = value <= bound
    print(f"  {name:<52} {value:8.3f} {unit:<8} at most {bound:g}{'' if holds else '   EXCEEDED'}", flush=True)
    return holds


def report(name: str, floods: list[Counts], refused_s: float) -> bool:
    """The figures of one address."""
    print(f"{name}: {CLIENTS} clients, {ROUNDS} x {SECONDS:g} s, medians")

    def median(of: list[float]) -> float:
        return statistics.median(of)

    checks = [
        line("refused, p95", median([p95(counts.refused) for counts in floods]), refused_s),
        line("answered, slowest", median([max(counts.answered, default=0.0) for counts in floods]), DEADLINE_S + 2),
        line("/health, slowest", median([max(counts.health, default=0.0) for counts in floods]), 1.0),
        line("neither answered nor refused", max(len(counts.others) for counts in floods), 0, "requests"),
    ]
    answered, refused = sum(len(counts.answered) for counts in floods), sum(len(counts.refused) for counts in floods)
    used = median([counts.cpu for counts in floods])
    print(f"  answered {answered}, refused {refused}; {used:.0%} of a CPU for the load")
    if others := sorted({other for counts in floods for other in counts.others}):
        print(f"  neither: {', '.join(others)}")
    return all(checks)


def share(found: Installation, large: bytes, tiny: bytes) -> bool:
    """How much longer one user's request takes beside another's large ones."""
    pairs = [asyncio.run(beside(found.direct, found.tokens, large, tiny, LARGE)) for _ in range(ROUNDS)]
    print(f"a tiny request beside {LARGE} of 25 megapixels of another user: {ROUNDS} times, medians")
    alone, taken = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"  alone {alone:.3f} s, beside them {taken:.3f} s, a batch {ROW_S:g} s")
    return line("batches more than alone", (taken - alone) / ROW_S, 1.0, "batches")


def main() -> int:
    """Exit status 1 where a bound is exceeded."""
    screen = picture(1920, 1080, noise=True)
    large, tiny = picture(5000, 5000, noise=False), picture(64, 64, noise=False)
    with (
        tempfile.TemporaryDirectory(prefix="switchyard-overload-") as folder,
        installed(Path(folder), USERS, DEADLINE_S, ROW_S) as found,
    ):
        checks = [share(found, large, tiny)]
        for name, url, bound in (("nginx", found.proxied, 0.3), ("the web process", found.direct, 1.0)):
            if url is None:
                print("nginx is not installed: the documented proxy is not measured.")
                continue
            floods = [asyncio.run(flood(url, found.tokens, screen, SECONDS)) for _ in range(ROUNDS)]
            checks.append(report(name, floods, bound))
    return 0 if all(checks) else 1


if __name__ == "__main__":
    sys.exit(main())
