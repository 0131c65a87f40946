"""What routing adds to the expert's own answer: `python -m benchmarks.routing_cost`.

Times, in turn on one engine with the tiny base: the expert alone, and the stacked request (route, then the expert).
Prints medians and their ratio and writes `benchmarks/results/routing_cost.json`.
"""

from __future__ import annotations

import io
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from peft import LoraConfig, get_peft_model
from tqdm import tqdm

import adapters.backbone  # noqa: F401 - sets how OpenMP waits, before torch is imported
from adapters.backbone.loading import load_model
from adapters.backbone.lora import LANGUAGE_TARGETS
from adapters.backbone.spec import BaseSpec, fingerprint, pixel_budget
from adapters.card import AdapterCard
from adapters.store import Store
from datasets_app.samples.kinds import KINDS
from datasets_app.samples.screen import Screen
from inference.engines.in_process import InProcessEngine
from inference.engines.types import AdapterRef, Request, StackSpec

EXPERTS = ("calendar", "claim-window", "provider-select")
ROUNDS, TOKENS = 40, 24
RESULT = Path(__file__).parent / "results" / "routing_cost.json"


def make_adapter(store: Store, spec: BaseSpec, name: str, labels: tuple[str, ...] = ()) -> AdapterRef:
    """An adapter with random weights: what it answers does not matter here, only what that costs."""
    low, high = pixel_budget(spec)
    card = AdapterCard(
        kind="router" if labels else "expert", base=fingerprint(spec), min_pixels=low, max_pixels=high, labels=labels
    )
    torch.manual_seed(len(name))
    model = get_peft_model(load_model(spec), LoraConfig(r=16, lora_alpha=32, target_modules=LANGUAGE_TARGETS))
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.02)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        card.write(Path(folder))
        return AdapterRef(name, store.add(Path(folder)).digest)


def screenshot(seed: int) -> bytes:
    """A drawn screen as PNG."""
    out = io.BytesIO()
    rng = Random(seed)
    KINDS[rng.choice(EXPERTS)].draw(Screen(rng)).image.save(out, "PNG")
    return out.getvalue()


def timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Measure, print, write."""
    spec = BaseSpec()
    with tempfile.TemporaryDirectory() as root:
        store = Store(Path(root))
        experts = tuple(make_adapter(store, spec, name) for name in EXPERTS)
        stack = StackSpec(fingerprint(spec), make_adapter(store, spec, "router", EXPERTS), experts)
        engine = InProcessEngine.load(spec, store.path)
        try:
            engine.deploy(stack)
            alone, stacked = [], []
            for round_ in tqdm(range(ROUNDS + 3), desc="requests"):
                request = Request(stack.digest, screenshot(round_), "Do what is asked.", TOKENS)
                result = engine.infer(request)  # warm, and says which expert answers
                expert = result.decision.adapter or experts[0]
                pair = (
                    timed(lambda expert=expert, request=request: engine.generate_many(expert, [request])),
                    timed(lambda request=request: engine.infer(request)),
                )
                if round_ >= 3:
                    alone.append(pair[0])
                    stacked.append(pair[1])
        finally:
            engine.close()
    ratios = [b / a for a, b in zip(alone, stacked, strict=True)]
    result = {
        "device": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "base": "tiny",
        "rounds": ROUNDS,
        "tokens": TOKENS,
        "expert_only_ms": statistics.median(alone),
        "stacked_ms": statistics.median(stacked),
        "stacked_over_expert_only": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
