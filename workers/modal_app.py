"""The app on Modal: `modal deploy -m workers.modal_app`.

Recipes and names live elsewhere; here is only what Modal needs to know. Jobs are spawned by name and leave their
results on the data volume. The control plane never imports this module.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import Any, ParamSpec

import modal
from modal.app import LocalEntrypoint
from modal.exception import Error

from datasets_app.errors import InputError
from inference.engines.limits import limits_env
from workers.remote.code import CONSTRAINTS, PACKAGES, code_mark
from workers.remote.direct import Direct, fields, pairs
from workers.remote.machines import (
    BESIDE_GPU,
    CPU,
    GPUS,
    GPUS_SETTING,
    MACHINES,
    STARTUP_LIMIT,
    TIME_LIMITS,
    WITHOUT_GPU,
    check_gpus,
)
from workers.remote.names import MOUNTS, Names, setting
from workers.remote.serving import Serving
from workers.remote.volumes import open_or_make

MINUTES = 60
PYTHON = "3.11"
UV = "0.13.9"

names = Names.from_env()
serving = Serving.from_env()
app = modal.App(names.app, include_source=False)

try:
    check_gpus(GPUS_SETTING, GPUS)
    serving.check()
    limits = limits_env()
    data, checkpoints, sources, base = (open_or_make(name, setting(role)) for role, name in names.volumes.items())
except (InputError, Error) as error:  # of whoever deploys
    raise SystemExit(f"error: {error}") from error
claims = modal.Dict.from_name(names.claims, create_if_missing=True)

image = (
    modal.Image.debian_slim(PYTHON)
    .add_local_file(CONSTRAINTS, "/constraints.txt", copy=True)
    .uv_pip_install(
        "torch",
        "transformers",
        "peft",
        "trl",
        "accelerate",
        "datasets",
        "safetensors",
        "pillow",
        "imagehash",
        "pydantic",
        "tqdm",
        "httpx",
        "aiohttp",
        "modal",
        extra_options="--constraint /constraints.txt",
        uv_version=UV,
    )
    .env({"HF_HOME": "/vol/base/huggingface", "SWITCHYARD_MODAL_GPUS": ",".join(GPUS)})
    .env({**names.as_env(), **serving.as_env(), **limits})
    .add_local_python_source(*PACKAGES, ignore=["**/__pycache__", "**/static", "**/migrations"])
)

MOUNTED: dict[str | PurePosixPath, modal.Volume | modal.CloudBucketMount] = {
    "/vol/data": data,
    "/vol/checkpoints": checkpoints.with_mount_options(read_only=True),
    "/vol/sources": sources.with_mount_options(read_only=True),
    "/vol/base": base,
}


def options_of(kind: str) -> dict[str, Any]:
    """The options of the function that runs jobs of the kind, one in a container."""
    limits = {"timeout": TIME_LIMITS[kind], "startup_timeout": STARTUP_LIMIT, "single_use_containers": True}
    machine = WITHOUT_GPU.as_options() if MACHINES[kind] == CPU else {"gpu": GPUS, **BESIDE_GPU.as_options()}
    return {"image": image, "volumes": MOUNTED, **limits, **machine}


with image.imports():
    from workers.remote import job
    from workers.remote.inference import Inference


@app.function(**options_of("generate_dataset"))
def generate_dataset_job(launch: str) -> None:
    """Draw a routing dataset from source datasets."""
    job.run(launch, claims, data)


@app.function(**options_of("preprocess"))
def preprocess_job(launch: str) -> None:
    """Convert a dataset to what training reads."""
    job.run(launch, claims, data)


@app.function(**options_of("train"))
def train_job(launch: str) -> None:
    """Train an adapter; a restart goes on from the last checkpoint."""
    job.run(launch, claims, data)


@app.function(**options_of("evaluate"))
def evaluate_job(launch: str) -> None:
    """Evaluate an adapter or a stack on held-out samples."""
    job.run(launch, claims, data)


@app.cls(
    image=image,
    volumes={name: MOUNTED[name] for name in ("/vol/checkpoints", "/vol/base")},
    gpu=serving.gpu_list,
    cpu=serving.cpus,
    memory=serving.memory_mib,
    min_containers=serving.min_containers,
    max_containers=serving.max_containers,
    scaledown_window=serving.scaledown_seconds,
    timeout=10 * MINUTES,
    startup_timeout=30 * MINUTES,
    enable_memory_snapshot=True,
)
@modal.concurrent(max_inputs=serving.concurrency)
class StackedInference:
    """Routes a screenshot and lets the chosen expert answer; `inference.engines.modal` is its caller."""

    @modal.enter(snap=True)
    def load(self) -> None:
        """Before the memory snapshot: the weights of the base."""
        self.inference = Inference(serving, checkpoints, MOUNTS)
        self.inference.load()

    @modal.enter()
    def start(self) -> None:
        """After it: the GPU and the threads."""
        self.inference.start()

    @modal.exit()
    def close(self) -> None:
        """Finish what is being answered."""
        self.inference.close()

    @modal.method()
    async def deploy(self, stack: bytes) -> list[Any]:
        """Load a stack."""
        return await self.inference.deploy(stack)

    @modal.method()
    async def route(self, request: bytes) -> list[Any]:
        """Which expert should answer."""
        return await self.inference.route(request)

    @modal.method()
    async def infer(self, request: bytes) -> list[Any]:
        """Route and answer."""
        return await self.inference.infer(request)

    @modal.method()
    async def stream(self, request: bytes) -> AsyncGenerator[bytes]:
        """The same as it happens."""
        async with aclosing(self.inference.stream(request)) as lines:
            async for line in lines:
                yield line

    @modal.method()
    async def status(self) -> list[Any]:
        """What the container holds."""
        return await self.inference.status()


@app.function(image=image, name=code_mark())
def code() -> None:
    """Nobody calls it: its name says which code this version of the app runs, which an app's tags do of the newest."""


direct = Direct({"data": data, "checkpoints": checkpoints, "sources": sources, "base": base}, claims)


Entry = ParamSpec("Entry")


def entry_point(function: Callable[Entry, None]) -> LocalEntrypoint:
    """One of `modal run`: what is wrong with its options is told in a sentence, without a traceback."""

    @functools.wraps(function)
    def told(*words: Entry.args, **options: Entry.kwargs) -> None:
        try:
            function(*words, **options)
        except InputError as error:
            raise SystemExit(f"error: {error}") from error

    return app.local_entrypoint()(told)


@entry_point
def generate(name: str, sources: str, negatives: str = "", options: str = "{}") -> None:
    """`--sources calendar,claim-window=folder`: folders on the volume of source datasets, by label."""
    listed = [(label, path, False) for label, path in pairs(sources).items()]
    listed += [(label, path, True) for label, path in pairs(negatives).items()]
    found = [
        {"label": label, "path": direct.folder(path if ":" in path else f"sources:{path}"), "negative": negative}
        for label, path, negative in listed
    ]
    _show(direct.run(generate_dataset_job, "generate_dataset", name, {"sources": found, **fields(options)}))


@entry_point
def preprocess(name: str, dataset: str, options: str = "{}") -> None:
    """`--dataset`: a run of generate, or `volume:path`."""
    spec = {"dataset": direct.folder(dataset), **fields(options)}
    _show(direct.run(preprocess_job, "preprocess", name, spec))


@entry_point
def train(name: str, dataset: str, options: str = "{}") -> None:
    """`--dataset`: a run of preprocess; `--options '{"max_steps": 100}'`: the recipe's own fields."""
    _show(direct.run(train_job, "train", name, {"data": direct.folder(dataset), **fields(options)}))


@entry_point
def evaluate(name: str, dataset: str, router: str = "", expert: str = "", options: str = "{}") -> None:
    """`--router` or `--expert`: a run of train, or `volume:path`."""
    adapters = {kind: direct.adapter(word) for kind, word in (("router", router), ("expert", expert)) if word}
    spec = {"data": direct.folder(dataset), **adapters, **fields(options)}
    _show(direct.run(evaluate_job, "evaluate", name, spec))


@entry_point
def stacked_inference(
    routing_run: str,
    routing_dataset: str,
    max_samples: int = 10,
    experts: str = "",
    name: str = "",
    options: str = "{}",
) -> None:
    """Route samples and let the chosen experts answer.

    `--experts calendar=calendar-1,claim-window=volume:path`: by label, a run of train or a folder, without a volume's
    name on the volume of checkpoints; left out, each lies there under its label.
    """
    router = direct.adapter(routing_run)
    places = pairs(experts) or {label: label for label in direct.labels(router) if label != "none"}
    spec = {
        "data": direct.folder(routing_dataset),
        "router": router,
        "experts": {label: direct.adapter(word, "checkpoints") for label, word in places.items()},
        "max_samples": max_samples,
        **fields(options),
    }
    report = direct.run(evaluate_job, "evaluate", name or f"stacked-{time.strftime('%Y%m%d-%H%M%S')}", spec)
    for sample in report.get("samples", []):
        print(json.dumps(sample, ensure_ascii=False))
    _show({key: value for key, value in report.items() if key != "samples"})


def _show(summary: dict[str, Any]) -> None:
    print(json.dumps(summary, indent=2, ensure_ascii=False))
