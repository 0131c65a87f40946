"""A small job and a routed request through a real account on Modal, from nothing to nothing: `make smoke-modal`.

An app, volumes and a Dict of their own names are made, and removed however it ends. The job draws a routing dataset of
a few screens, and its result comes back. The tiny base and adapters that were never trained answer on CPUs: what they
say is not the point.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import modal
from modal.config import config
from modal.exception import Error, NotFoundError
from PIL import Image

from adapters.backbone.lora import LANGUAGE_TARGETS
from adapters.backbone.spec import BaseSpec, fingerprint, pixel_budget
from adapters.card import AdapterCard
from adapters.store import Store
from datasets_app.errors import InputError
from datasets_app.samples.source import write_source
from inference.engines.base import EngineError
from inference.engines.modal.engine import ModalEngine
from inference.engines.types import AdapterRef, Request, StackSpec
from workers.compute.modal import ModalCompute, account
from workers.compute.modal.token import LOG_IN
from workers.compute.types import ComputeUnavailable, JobSpec, JobState
from workers.recipes.manifest import ManifestError
from workers.remote import calls
from workers.remote.names import Names
from workers.remote.serving import Serving

NAMES = Names(
    app="switchyard-smoke",
    data="switchyard-smoke-data",
    checkpoints="switchyard-smoke-checkpoints",
    sources="switchyard-smoke-sources",
    base="switchyard-smoke-base",
    claims="switchyard-smoke-claims",
)
SERVING = Serving(dtype="float32", gpus="", cpus=2, memory_mib=4096, scaledown_seconds=60)
DRAWN = ("calendar", "claim-window")
LABELS = ("left", "right")
COST = (
    "This deploys the app 'switchyard-smoke', lets it draw a small dataset and asks it for one answer: a minute of "
    "8 CPU cores and 32 GiB, some minutes of 2 cores and 4 GiB, no GPU. At the prices in docs/modal.md that is less "
    "than $0.05, the image's first build included."
)
PATIENCE_S = 600.0
ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if the request was routed and all is removed again, 1 if not, 2 if nothing was begun."""
    parser = argparse.ArgumentParser(prog="python -m workers.smoke", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="don't ask")
    options = parser.parse_args(arguments)
    if not (config.get("token_id") and config.get("token_secret")):
        print(f"There is no Modal token: {LOG_IN}. Nothing was begun.")
        return 2
    print(COST)
    if not (options.yes or (sys.stdin.isatty() and input("Go on? [y/N] ").strip().lower() == "y")):
        print("Nothing was begun; --yes begins without asking.")
        return 2
    try:
        with account.speaking(), tempfile.TemporaryDirectory() as folder:
            try:
                deploy()
                draw(Path(folder))
                ask(Path(folder))
            finally:
                left = clean_up()
    except (InputError, EngineError, ComputeUnavailable, ManifestError, RuntimeError) as error:
        print(f"Failed: {error}")
        return 1
    if not left:
        print("Removed again: app, volumes and Dict.")
    return 1 if left else 0


def deploy() -> None:
    """`modal deploy`, then the check that `manage.py check --deploy` makes; RuntimeError if either fails."""
    environment = {**os.environ, **NAMES.as_env(), **SERVING.as_env()}
    started = time.monotonic()
    words = [sys.executable, "-m", "modal", "deploy", "-m", "workers.modal_app"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"modal deploy: {(done.stderr or done.stdout).strip()[-2000:]}")
    if problems := account.problems(NAMES, None):
        raise RuntimeError(" ".join(problems))
    print(f"Deployed in {time.monotonic() - started:.0f} s.")


def draw(folder: Path) -> None:
    """The cheapest job: inputs up, a launch claimed, progress and result committed, outputs back and checked."""
    sources = [
        {"label": name, "path": str(write_source(name, folder / "sources" / name, 12, seed=1))} for name in DRAWN
    ]
    compute, key = ModalCompute(str(folder / "jobs"), **asdict(NAMES)), uuid.uuid4().hex
    spec = {"sources": sources, "samples_per_class": 4, "split": {"train": 0.5, "val": 0.25, "eval": 0.25}}
    started = time.monotonic()
    handle = compute.submit(JobSpec("generate_dataset", key, key, spec))
    while calls.ask(handle.partition("/")[2], calls.HELD_SECONDS).outcome is calls.Outcome.PENDING:
        if time.monotonic() - started > PATIENCE_S:
            raise RuntimeError(f"the job has not ended after {PATIENCE_S:.0f} s.")
    status = compute.poll(handle)
    if status.state is not JobState.SUCCEEDED:
        raise RuntimeError(f"the job: {status.state}. {status.error}")
    images = len(list((compute.outputs(handle) / "images").iterdir()))
    print(f"A job drew {images} screens in {time.monotonic() - started:.1f} s, start and transfers included.")


def ask(folder: Path) -> None:
    """Route one screenshot twice, the first time with a cold start."""
    store = Store(folder / "store")
    stack = untrained_stack(folder, store)
    engine = ModalEngine(NAMES.app, store, NAMES.checkpoints, deadline_s=PATIENCE_S)
    try:
        started = time.monotonic()
        engine.deploy(stack)
        print(f"The stack was loaded {time.monotonic() - started:.1f} s after the first call, cold start included.")
        image = io.BytesIO()
        Image.new("RGB", (320, 240), "navy").save(image, "PNG")
        started = time.monotonic()
        result = engine.infer(Request(stack.digest, image.getvalue(), "Which side?", max_tokens=8))
        seconds = time.monotonic() - started
        print(f"Routed to {result.decision.label!r}, {result.tokens} tokens, in {1000 * seconds:.0f} ms.")
    finally:
        engine.close()


def untrained_stack(folder: Path, store: Store) -> StackSpec:
    """A router and two experts for the tiny base, in the store."""
    base = BaseSpec()
    refs = {}
    for name in ("router", *LABELS):
        directory = untrained_adapter(folder / name, base, LABELS if name == "router" else ())
        refs[name] = AdapterRef(name, store.add(directory).digest)
    return StackSpec(fingerprint(base), refs["router"], tuple(refs[name] for name in LABELS))


def untrained_adapter(folder: Path, base: BaseSpec, labels: tuple[str, ...] = ()) -> Path:
    """Save a new LoRA, a router if it has labels, else an expert."""
    from peft import LoraConfig, get_peft_model

    from adapters.backbone.loading import load_model

    lora = LoraConfig(r=4, lora_alpha=8, target_modules=LANGUAGE_TARGETS, init_lora_weights=False)
    model: Any = get_peft_model(load_model(base), lora)
    model.save_pretrained(str(folder))
    low, high = pixel_budget(base)
    kind: Literal["router", "expert"] = "router" if labels else "expert"
    AdapterCard(kind=kind, base=fingerprint(base), min_pixels=low, max_pixels=high, labels=labels).write(folder)
    return folder


def clean_up() -> list[str]:
    """Remove what `deploy` made, as far as it is there; says and returns the names of what could not be removed."""
    left = []
    removals: list[tuple[str, Callable[[str], object], str]] = [("app", _stop, NAMES.app)]
    removals += [("volume", modal.Volume.objects.delete, name) for name in NAMES.volumes.values()]
    removals += [("Dict", modal.Dict.objects.delete, NAMES.claims)]
    for kind, remove, name in removals:
        try:
            remove(name)
        except NotFoundError:
            continue
        except (Error, OSError) as error:
            print(f"The {kind} {name!r} was not removed: {error}. Remove it by hand.")
            left.append(name)
    return left


def _stop(app: str) -> None:
    modal.App.lookup(app).stop()


if __name__ == "__main__":
    sys.exit(main())
