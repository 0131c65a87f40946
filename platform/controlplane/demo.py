"""`python -m controlplane.demo`: the whole main job on this machine, through the platform itself.

Broker, engine, web, worker and beat really run. What an earlier demo has finished is reused.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import django

EXPERTS = ("calendar", "claim-window", "provider-select")  # longest training first
TRAIN_ROWS = 600
UNSEEN_PER_CLASS = 100
SEED, UNSEEN_SEED = 1, 2
REQUESTS_PER_CLASS = 4


_interrupts: list[int] = []


def interrupt(number: int, _: object) -> None:
    """SIGINT or SIGTERM: stop."""
    _interrupts.append(number)
    raise KeyboardInterrupt


def heed_interrupt() -> None:
    """Stop if an interrupt was lost in code that drops the exceptions of a signal's handler."""
    if _interrupts:
        raise KeyboardInterrupt


class Steps:
    """Times the steps and says which one is on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """Time the block under `name`."""
        heed_interrupt()
        print(f"\n• {title}", flush=True)
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


def main() -> int:
    """Set up ports, start the processes, run the job, report; 0 if everything succeeded."""
    from controlplane.processes import free_port

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    port = free_port()
    os.environ["SWITCHYARD_PORT"] = str(port)
    os.environ["SWITCHYARD_ENGINE_URL"] = f"http://127.0.0.1:{free_port()}"
    django.setup()
    from datasets_app.errors import InputError

    try:
        return demo(f"http://127.0.0.1:{port}")
    except InputError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Jobs under way run to their end; `make demo` goes on from there.", file=sys.stderr)
        return 130


def demo(url: str) -> int:
    """The main job against the platform at `url`."""
    from django.conf import settings
    from django.core.management import call_command

    from controlplane.processes import running, wait_until_up

    root = Path(settings.DATA_ROOT) / "demo"
    root.mkdir(parents=True, exist_ok=True)
    log = root / "processes.log"
    steps = Steps()
    with steps.step("migrate", "Database"):
        call_command("migrate", verbosity=0)
    with running(log):
        with steps.step("start", "Broker, engine, web, worker and beat"):
            wait_until_up(f"{url}/health", seconds=60, log=log)
        with steps.step("draw", "Sample screens"):
            register_samples(Path(settings.DATA_ROOT) / "samples")
        slots = settings.COMPUTE[settings.COMPUTE_DEFAULT]["SLOTS"]
        with steps.step("train", f"Three experts and the router, up to {slots} at a time"):
            experts, router = train_everything()
        with steps.step("evaluate", f"{UNSEEN_PER_CLASS * len(EXPERTS)} unseen screens"):
            evaluation = evaluate_on_unseen(router.name)
        with steps.step("live", "The router goes live"):
            wait_until_up(f"{settings.ENGINE['OPTIONS']['url']}/health", seconds=60, log=log)
            stack = promote(router.name)
        with steps.step("requests", "Requests over HTTP, with screens that nobody has seen"):
            served = send_requests(url, Path(settings.DATA_ROOT) / "samples")
    report = summarise(experts, evaluation, served, stack, steps.seconds)
    (root / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print_report(report, root / "report.json")
    return 0


def register_samples(root: Path) -> None:
    """Draw what is not there yet, and register sources and experts."""
    from tqdm import tqdm

    from adapters.services import register_adapter
    from datasets_app.models import SourceDataset
    from datasets_app.samples.source import write_source
    from datasets_app.services import register_source

    for kind in EXPERTS:
        for name, count, seed in (
            (kind, TRAIN_ROWS, SEED),
            (f"{kind}-unseen", UNSEEN_PER_CLASS, UNSEEN_SEED),
        ):
            folder = root / name
            if SourceDataset.objects.filter(name=name, path=str(folder)).exists() and folder.exists():
                print(f"  {name}: reused")
                continue
            with tqdm(total=count, desc=f"  {name}", disable=None, leave=False) as bar:
                if not folder.exists():
                    write_source(kind, folder, count, seed, partial(advance_bar, bar))
            source = register_source(name, folder)
            print(f"  {name}: {source.rows} screens")
        register_adapter(kind, source=SourceDataset.objects.get(name=kind))


def advance_bar(bar: Any, done: int, total: int) -> None:
    """Bring a progress bar to `done`."""
    heed_interrupt()
    bar.update(done - bar.n)


def finish(runs: Sequence[Any]) -> None:
    """Watch the runs side by side; RuntimeError names the first that did not succeed."""
    from workers.management.watch import watch
    from workers.states import Status

    for run in runs:
        if run.is_over:
            print(f"  {run.name}: reused")
    watch(runs)
    failed = [run for run in runs if run.status != Status.SUCCEEDED]
    if failed:
        first = min(failed, key=lambda run: run.finished_at)
        raise RuntimeError(f"Run {first.name!r} {first.status}: {first.error}")


def train_everything() -> tuple[list[Any], Any]:
    """Launch every pipeline and see all to their end; the experts' and the router's train runs."""
    from workers.services import launch_expert_pipeline, launch_router_pipeline

    pipelines = [launch_expert_pipeline(name, name=f"demo-{name}") for name in EXPERTS]
    pipelines.append(launch_router_pipeline("demo-router", adapters=EXPERTS))
    runs = {run.name: run for pipeline in pipelines for run in pipeline.steps}
    finish(list(runs.values()))
    return [runs[f"demo-{name}-train"] for name in EXPERTS], runs["demo-router-train"]


def evaluate_on_unseen(train_run: str) -> Any:
    """Evaluate the router and its experts together on screens of another seed."""
    from workers.services import launch

    name = "demo-unseen"
    drawn = {
        "adapters": EXPERTS,
        "sources": {kind: f"{kind}-unseen" for kind in EXPERTS},
        "samples_per_class": UNSEEN_PER_CLASS,
        "split": (0, 0, 1),
    }
    finish([launch("generate_dataset", drawn, name=name)])
    finish([launch("preprocess", {"dataset": name}, name=f"{name}-preprocess")])
    subject = {"run": train_run, "dataset": name, "stack": True, "note": NOTE}
    run = launch("evaluate", subject, name=f"{name}-evaluate")
    finish([run])
    return run.evaluation


NOTE = (
    "These screens are drawn, and the base model was trained on screens of the same drawing hand: "
    "routing them is easier than routing real screenshots."
)


def promote(train_run: str) -> Any:
    """Put the router of `train_run` live, unless it is."""
    from adapters.selectors import champion
    from inference.services import promote
    from workers.selectors import get_run

    version = get_run(train_run).adapter_version
    if version is None:
        raise RuntimeError(f"Run {train_run!r} made no adapter.")
    serving = champion()
    if serving is not None and serving.router_id == version.pk:
        print(f"  {version} serves already")
    return promote(version)


def send_requests(url: str, samples: Path) -> list[dict[str, Any]]:
    """Real requests with a token, as a user sends them; what was expected and what came."""
    import httpx
    from django.contrib.auth import get_user_model
    from knox.models import AuthToken

    user, _ = get_user_model().objects.get_or_create(username="demo")
    AuthToken.objects.filter(user=user).delete()
    _, token = AuthToken.objects.create(user)
    served = []
    with httpx.Client(base_url=url, headers={"Authorization": f"Token {token}"}, timeout=60) as client:
        for kind in EXPERTS:
            folder = samples / f"{kind}-unseen"
            rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
            for row in rows[:REQUESTS_PER_CLASS]:
                human, answer = (turn["value"] for turn in row["conversations"][-2:])
                started = time.monotonic()
                response = client.post(
                    "/api/v1/infer/",
                    data={"prompt": human.removeprefix("<image>").strip()},
                    files={"image": (folder / row["image"]).read_bytes()},
                )
                response.raise_for_status()
                body = response.json()
                served.append(
                    {
                        "expected": kind,
                        "adapter": body["adapter"],
                        "probability": body["probabilities"][body["label"]],
                        "exact": body["text"].strip() == answer.strip(),
                        "milliseconds": round(1000 * (time.monotonic() - started)),
                        "timings": body["timings"],
                    }
                )
                print(
                    f"  {kind:16} → {body['adapter']:16} {body['probabilities'][body['label']]:7.2%}  "
                    f"{served[-1]['milliseconds']:5} ms  {' '.join(body['text'].split())[:70]}"
                )
    return served


def summarise(
    experts: list[Any], evaluation: Any, served: list[dict[str, Any]], stack: Any, seconds: dict[str, float]
) -> dict[str, Any]:
    """The figures of the report."""
    figures = evaluation.report
    return {
        "router": {
            "accuracy": evaluation.accuracy,
            "ci_low": evaluation.ci_low,
            "ci_high": evaluation.ci_high,
            "n": evaluation.samples,
            "macro_f1": figures["routing"]["macro_f1"],
            "confusion": figures["routing"]["confusion"],
        },
        "experts": {name: flat(expert) for name, expert in figures["experts"].items()},
        "end_to_end": flat(figures["end_to_end"]),
        "latency_ms": figures["latency_ms"],
        "requests": served,
        "stack": stack.digest,
        "report_html": str(Path(evaluation.path) / "report.html"),
        "note": NOTE,
        "seconds": seconds,
    }


def flat(answers: dict[str, Any]) -> dict[str, Any]:
    """Shares of exact and of valid answers, the interval being that of the exact ones."""
    exact = answers["exact"]
    return {
        "exact": exact["value"],
        "ci_low": exact["ci_low"],
        "ci_high": exact["ci_high"],
        "n": exact["n"],
        "valid": answers["valid"]["value"],
    }


def print_report(report: dict[str, Any], path: Path) -> None:
    """The figures for people."""
    router, whole = report["router"], report["end_to_end"]
    labels, matrix = router["confusion"]["labels"], router["confusion"]["matrix"]
    print("\n" + "─" * 78)
    print("Router            " + share(router["accuracy"], router) + " unseen screens routed right")
    for name, expert in report["experts"].items():
        print(f"{name:18}" + share(expert["exact"], expert) + " answers exact")
    print("End to end        " + share(whole["exact"], whole) + " routed and answered exactly")
    print("Confusion         " + " ".join(f"{label:>16}" for label in labels) + "   ← routed to")
    for label, row in zip(labels, matrix, strict=True):
        print(f"{label:18}" + " ".join(f"{count:16}" for count in row))
    times = sorted(request["milliseconds"] for request in report["requests"])
    print(f"Over HTTP         {len(times)} requests, median {times[len(times) // 2]} ms, slowest {times[-1]} ms")
    print("Seconds           " + ", ".join(f"{name} {value:g}" for name, value in report["seconds"].items()))
    print(f"Note              {report['note']}")
    print(f"Report            {report['report_html']}\nFigures           {path}")
    print("Next              make serve")


def share(value: float, figure: dict[str, Any]) -> str:
    """A share with its 95% interval and what it is a share of."""
    return f"{value:6.1%} ({figure['ci_low']:.1%} to {figure['ci_high']:.1%}) of {figure['n']}"


if __name__ == "__main__":
    sys.exit(main())
