"""What stacking, batching and many adapters cost: `python -m benchmarks.engine [--size tiny|mid|8b] [--rounds N] …`.

Everything is timed side by side, in turn, on one model with random weights (`tiny` is the repository's own base), so
that a busy machine slows all of it alike: only the ratios mean something. With one CPU thread it is the process's own
CPU time that counts, which other processes hardly disturb, else the time that passes. Prints medians and quartiles,
writes `benchmarks/results/engine.json` after each round; a size that is not the machine's own goes to
`engine-SIZE.json`. Ratios called `over` are of times, smaller is better, save `eight.*`: those are of throughputs,
larger is better. `ratios` holds each one's spread over the rounds.

`bounds` are what a processor allows that vision and prompts fill already (the tiny base's don't), from the stages of
single requests: alone, stacking costs at least one more pass over the prompt; eight at once save at most the decoding.
`glancing` is a plain router that sees a third of the expert's screen each way, in whole tiles: a short pass.
`routing_over_rest` compares the stages within single requests, which a busy host slows as a whole.

`--alone` asks one request at a time only, of three adapters, in minutes, and writes `engine-alone.json`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import platform
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from adapters.backbone.loading import load_processor
from adapters.backbone.spec import tile_pixels
from adapters.store import Store
from benchmarks.models import SIZES, Size, make_adapter, make_base
from benchmarks.peft_mixed import PeftMixed
from datasets_app.formats.pictures import decode
from datasets_app.samples.kinds import KINDS
from datasets_app.samples.screen import Screen
from inference.engines.in_process import InProcessEngine, Limits, generate_batch
from inference.engines.in_process.prompts import PromptBuilder
from inference.engines.types import AdapterRef, Request, StackSpec

RESULTS = Path(__file__).parent / "results"
POPULATIONS = (3, 16, 64)
NAME_TOKENS = 6  # of a router's answer where it is generated
FRESH_ROUNDS = 2  # loading a base is slow
GLANCE = 3  # as many times smaller are the sides of what a glancing router sees


class Bench:
    """An engine with 64 experts, and the ways to ask it."""

    def __init__(self, size: Size, folder: Path, tokens: int, populations: Sequence[int]) -> None:
        self.size = size
        self.populations = populations
        self.tokens = tokens
        self.base = make_base(size, folder / "base")
        self.store = Store(folder / "store")
        self.times: dict[str, list[float]] = defaultdict(list)
        self.stages: dict[str, list[dict[str, float]]] = defaultdict(list)  # of single stacked requests, by their way
        self.bytes: dict[str, object] = {}
        self.ratios: dict[str, dict[str, float]] = {}
        names = [f"expert-{number}" for number in range(max(populations))]
        self.experts = [self._adapter(name) for name in tqdm(names, desc="adapters")]
        self.routers = {count: self._adapter(f"router-{count}", tuple(names[:count])) for count in populations}
        self.talking_router = self._adapter("talking-router")
        opening = PromptBuilder(load_processor(self.base)).opening
        self.activated_expert = self._adapter("activated-expert", (), opening)
        self.activated_router = self._adapter("activated-router", tuple(names[:3]), opening)
        tile = math.isqrt(tile_pixels(self.base))
        width, height = (side // GLANCE // tile * tile for side in size.screen)
        glance = replace(size, screen=(width, height))
        self.glancing_router = self._adapter("glancing-router", tuple(names[:3]), size=glance)
        limits = Limits(queue=64, deadline_s=3600, batch=16, stacks=200, adapters=100)
        self.engine = InProcessEngine.load(self.base, self.store.path, limits)
        self.stacks: dict[tuple[int, int], StackSpec] = {}

    @cached_property
    def peft(self) -> PeftMixed:
        """PEFT's way, with a base of its own."""
        side_by_side = [*self.experts[:3], self.talking_router]
        return PeftMixed(self.base, {ref.name: self.store.path(ref.digest) for ref in side_by_side})

    def _adapter(
        self, name: str, labels: tuple[str, ...] = (), invocation: tuple[int, ...] = (), size: Size | None = None
    ) -> AdapterRef:
        with tempfile.TemporaryDirectory() as folder:
            make_adapter(size or self.size, self.base, Path(folder), name, labels, invocation)
            return AdapterRef(name, self.store.add(Path(folder)).digest)

    def stack(self, population: int, expert: int) -> StackSpec:
        """A stack of so many names, all of which mean one expert: so the benchmark knows who answers."""
        digest = self.experts[expert].digest
        named = tuple(AdapterRef(f"expert-{number}", digest) for number in range(population))
        return StackSpec(self.engine.base, self.routers[population], named)

    def deploy(self) -> None:
        """All stacks, timed, and what they take."""
        for population in self.populations:
            for expert in range(population):
                stack = self.stack(population, expert)
                held = self.experts[expert].digest in self.engine.status()["adapters"]  # type: ignore[operator]
                first = self.routers[population].digest not in self.engine.status()["adapters"]  # type: ignore[operator]
                took = timed(lambda stack=stack: self.engine.deploy(stack))
                if not first:
                    self.times["deploy_ms" if held else "load_ms"].append(took)
                self.stacks[population, expert] = stack
            self.bytes[f"adapters_{population}"] = self.engine.status()["adapter_bytes"]
        named = tuple(AdapterRef(f"expert-{number}", self.activated_expert.digest) for number in range(3))
        self.activated = StackSpec(self.engine.base, self.activated_router, named)
        self.engine.deploy(self.activated)
        self.glancing = {i: replace(self.stack(3, i), router=self.glancing_router) for i in range(3)}
        for stack in self.glancing.values():
            self.engine.deploy(stack)
        self.bytes["deployed"] = peak_bytes()  # before the other ways to stack load bases of their own

    def request(self, seed: int, expert: int, population: int = 3) -> Request:
        """A drawn screen for that expert."""
        digest = self.stacks[population, expert].digest
        return Request(digest, screenshot(seed, self.size.screen), "Do what is asked.", self.tokens)

    def alone(self, seed: int) -> None:
        """One request at a time: the expert only, three ways to stack it, and the two usual ones."""
        request, expert = self.request(seed, seed % 3), self.experts[seed % 3]
        shared = replace(request, stack=self.activated.digest)
        glanced = replace(request, stack=self.glancing[seed % 3].digest)

        def stacked(way: str, asked: Request) -> None:
            self.stages[way].append(self.engine.infer(asked).timings)

        def two_calls() -> None:
            self.engine.generate_many(self.talking_router, [Request("", request.image, request.prompt, NAME_TOKENS)])
            self.engine.generate_many(expert, [request])

        ways: list[tuple[str, Callable[[], object]]] = [
            ("expert_only", lambda: self.engine.generate_many(expert, [request])),
            ("plain", lambda: stacked("plain", request)),
            ("glancing", lambda: stacked("glancing", glanced)),
            ("alora_expert_only", lambda: self.engine.generate_many(self.activated_expert, [request])),
            ("alora", lambda: stacked("alora", shared)),
            ("two_calls", two_calls),
        ]
        if len(self.times["fresh_base"]) < FRESH_ROUNDS:
            ways.append(("fresh_base", lambda: self._fresh(request, expert)))
        for name, way in rotated(ways, seed):
            self.times[name].append(timed(way))

    def _fresh(self, request: Request, expert: AdapterRef) -> None:
        """A base loaded for each of the two adapters, which generate one after the other."""
        from peft import PeftModel

        from adapters.backbone.loading import load_model, load_processor
        from adapters.card import AdapterCard

        processor, image = load_processor(self.base), decode(request.image)
        for adapter, tokens in ((self.talking_router, NAME_TOKENS), (expert, self.tokens)):
            folder = self.store.path(adapter.digest)
            model = PeftModel.from_pretrained(load_model(self.base), folder).eval()
            generate_batch(model, processor, AdapterCard.read(folder), [image], [request.prompt], tokens)

    def together(self, seed: int, concurrent: list[int]) -> None:
        """Many requests at once: of one adapter and of three, one after the other, and of more and more adapters."""
        ways: list[tuple[str, Callable[[], object]]] = []
        for count in sorted({*concurrent, 8}):
            ways.append((f"{count}_one_adapter", lambda count=count: self._at_once(seed, count, 3, 1)))
            ways.append((f"{count}_mixed", lambda count=count: self._at_once(seed, count, 3, 3)))
        for population in self.populations:
            ways.append((f"adapters_{population}", lambda p=population: self._at_once(seed, 8, p, p)))
        ways.append(("eight_sequential", lambda: [self.engine.infer(self.request(seed + i, i % 3)) for i in range(8)]))
        ways.append(("eight_peft", lambda: self._at_once_with_peft(seed, 8)))
        for name, way in rotated(ways, seed):
            self.times[name].append(timed(way))

    def _at_once_with_peft(self, seed: int, count: int) -> None:
        """The router's answers generated as one batch, then the experts' as one mixed batch."""
        requests = [self.request(seed + i, i % 3) for i in range(count)]
        self.peft.generate(requests, [self.talking_router.name] * count, NAME_TOKENS)
        self.peft.generate(requests, [self.experts[i % 3].name for i in range(count)], self.tokens)

    def _at_once(self, seed: int, count: int, population: int, adapters: int) -> None:
        requests = [self.request(seed + i, (seed * count + i) % adapters, population) for i in range(count)]
        for future in [self.engine.submit_infer(request) for request in requests]:
            future.result()

    def report(self, rounds: int) -> dict[str, Any]:
        """The machine, the ratios of single requests, and the medians of all times."""
        times = self.times
        return {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
            "threads": torch.get_num_threads(),
            "size": asdict(self.size) | {"parameters": sum(p.numel() for p in self.engine._runner.model.parameters())},
            "clock": clock_name(),
            "rounds": rounds,
            "tokens": self.tokens,
            "alone": {
                "plain_over_expert_only": self._ratio("plain", "expert_only"),
                "glancing_over_expert_only": self._ratio("glancing", "expert_only"),
                "alora_over_expert_only": self._ratio("alora", "alora_expert_only"),
                "alora_over_plain_expert_only": self._ratio("alora", "expert_only"),
                "two_calls_over_expert_only": self._ratio("two_calls", "expert_only"),
                "fresh_base_over_expert_only": self._ratio("fresh_base", "expert_only"),
            },
            "bounds": self._bounds(),
            "routing_over_rest": {
                way: spread([told["route"] / (told["total"] - told["route"]) for told in stages])
                for way, stages in self.stages.items()
            },
            "shares_alone": {
                stage: statistics.median(told[stage] / told["total"] for told in self.stages["plain"])
                for stage in ("preprocess", "queue", "vision", "route", "prefill", "decode")
            },
            "bytes": self.bytes | {"peak": peak_bytes()},
            "ms": {name: spread(values) for name, values in times.items()},
        }

    def report_together(self) -> dict[str, Any]:
        """The ratios of many requests at once, and what many adapters took to load."""
        return {
            "eight": {
                "mixed_over_one_adapter": self._ratio("8_one_adapter", "8_mixed"),
                "over_sequential": self._ratio("eight_sequential", "8_mixed"),
                "over_peft": self._ratio("eight_peft", "8_mixed"),
            },
            "adapters_64_over_3": self._ratio("adapters_64", "adapters_3"),
            "adapters_16_over_3": self._ratio("adapters_16", "adapters_3"),
            "load_ms": statistics.median(self.times["load_ms"]),
            "deploy_ms": statistics.median(self.times["deploy_ms"]),
        }

    def _ratio(self, over: str, under: str) -> float:
        """The median of the rounds' ratios, whose spread goes into `ratios`."""
        ratios = spread([a / b for a, b in zip(self.times[over], self.times[under], strict=False)])
        self.ratios[f"{over} / {under}"] = ratios
        return ratios["median"]

    def _bounds(self) -> dict[str, float]:
        """See the module's docstring."""

        def cost(told: dict[str, float], *stages: str) -> float:
            return sum(told[stage] for stage in stages)

        return {
            "plain_over_expert_only": statistics.median(
                1 + told["route"] / cost(told, "vision", "prefill", "decode") for told in self.stages["plain"]
            ),
            "eight_over_sequential": statistics.median(
                told["total"] / cost(told, "vision", "route", "prefill") for told in self.stages["plain"]
            ),
        }


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": middle, "low": low, "high": high}


def peak_bytes() -> int:
    """The most memory that was in use: the GPU's, or else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rotated(ways: list[tuple[str, Callable[[], object]]], by: int) -> list[tuple[str, Callable[[], object]]]:
    """Begin with another one each time, so that none is always the first."""
    start = by % len(ways)
    return ways[start:] + ways[:start]


def screenshot(seed: int, screen: tuple[int, int]) -> bytes:
    """A drawn screen as PNG, enlarged to that width and height."""
    rng, out = Random(seed), io.BytesIO()
    image: Image.Image = KINDS[rng.choice(sorted(KINDS))].draw(Screen(rng)).image
    image.resize(screen).save(out, "PNG")
    return out.getvalue()


def timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    clock = getattr(time, clock_name())
    started: float = clock()
    call()
    return 1000 * (float(clock()) - started)


def clock_name() -> str:
    """Which of Python's clocks counts."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return "process_time" if alone else "perf_counter"


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is known after each round."""
    with tempfile.TemporaryDirectory() as folder:
        populations = POPULATIONS[:1] if options.alone else POPULATIONS
        bench = Bench(SIZES[options.size], Path(folder), options.tokens, populations)
        try:
            bench.deploy()
            for stack in (bench.stacks[3, 0], bench.glancing[0], bench.activated):  # warm
                bench.engine.infer(replace(bench.request(0, 0), stack=stack.digest))
            for number in tqdm(range(1, options.rounds + 1), desc="rounds"):
                bench.alone(number)
                if not options.alone:
                    bench.together(number, options.concurrent)
                together = {} if options.alone else bench.report_together()
                yield bench.report(number) | together | {"ratios": bench.ratios}
        finally:
            bench.engine.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default, default_tokens = ("8b", 64) if torch.cuda.is_available() else ("mid", 24)
    parser.add_argument("--size", choices=sorted(SIZES), default=default)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=default_tokens, help="of an answer")
    parser.add_argument("--concurrent", type=int, nargs="+", default=[1, 4, 8, 16], help="8 is always among them")
    parser.add_argument("--alone", action="store_true", help="one request at a time only")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    kind = "-alone" if options.alone else ""
    size = "" if options.size == default else f"-{options.size}"
    path = RESULTS / f"engine{size}{kind}.json"
    RESULTS.mkdir(exist_ok=True)
    for result in measured(options):
        path.write_text(json.dumps(result, indent=2) + "\n")  # a long measurement may be broken off
    for name, values in result["ms"].items():
        print(f"{name:40} {values['median']:9.0f} ms  ({values['low']:.0f} to {values['high']:.0f})")
    for name, values in result["ratios"].items():
        print(f"{name:40} {values['median']:9.3f}     ({values['low']:.3f} to {values['high']:.3f})")
    print(path.read_text())


if __name__ == "__main__":
    main()
