"""The app on Modal: `modal deploy -m workers.modal_app`.

Recipes and names live elsewhere; here is only what Modal needs to know. Jobs are spawned by name and leave their
results on the data volume. The control plane never imports this module.
"""

from __future__ import annotations

import json
import time
from pathlib import Path, PurePosixPath
from typing import Any

import modal

from workers.remote.code import PACKAGES, code_digest
from workers.remote.direct import Direct, pairs
from workers.remote.machines import GPUS, TIME_LIMITS
from workers.remote.names import Names

PYTHON = "3.11"
UV = "0.13.9"
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"

names = Names.from_env()
app = modal.App(names.app, tags={"code": code_digest()}, include_source=False)

data = modal.Volume.from_name(names.data, create_if_missing=True, version=2)
checkpoints = modal.Volume.from_name(names.checkpoints, create_if_missing=True)
sources = modal.Volume.from_name(names.sources, create_if_missing=True)
base = modal.Volume.from_name(names.base, create_if_missing=True, version=2)
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
    .env({"HF_HOME": "/vol/base/huggingface", **names.as_env()})
    .add_local_python_source(*PACKAGES, ignore=["**/__pycache__", "**/static", "**/migrations"])
)

MOUNTED: dict[str | PurePosixPath, modal.Volume | modal.CloudBucketMount] = {
    "/vol/data": data,
    "/vol/checkpoints": checkpoints.with_mount_options(read_only=True),
    "/vol/sources": sources.with_mount_options(read_only=True),
    "/vol/base": base,
}

with image.imports():
    from workers.remote import job


@app.function(
    image=image,
    volumes=MOUNTED,
    cpu=8,
    memory=32768,
    timeout=TIME_LIMITS["generate_dataset"],
    single_use_containers=True,
)
def generate_dataset_job(launch: str) -> None:
    """Draw a routing dataset from source datasets."""
    job.run(launch, claims, data)


@app.function(
    image=image, volumes=MOUNTED, cpu=8, memory=32768, timeout=TIME_LIMITS["preprocess"], single_use_containers=True
)
def preprocess_job(launch: str) -> None:
    """Convert a dataset to what training reads."""
    job.run(launch, claims, data)


@app.function(image=image, volumes=MOUNTED, gpu=GPUS, timeout=TIME_LIMITS["train"], single_use_containers=True)
def train_job(launch: str) -> None:
    """Train an adapter; a restart goes on from the last checkpoint."""
    job.run(launch, claims, data)


@app.function(image=image, volumes=MOUNTED, gpu=GPUS, timeout=TIME_LIMITS["evaluate"], single_use_containers=True)
def evaluate_job(launch: str) -> None:
    """Evaluate an adapter or a stack on held-out samples."""
    job.run(launch, claims, data)


direct = Direct({"data": data, "checkpoints": checkpoints, "sources": sources, "base": base}, claims)


@app.local_entrypoint()
def generate(name: str, sources: str, negatives: str = "", options: str = "{}") -> None:
    """`--sources calendar,claim-window=folder`: folders on the volume of source datasets, by label."""
    listed = [(label, path, False) for label, path in pairs(sources).items()]
    listed += [(label, path, True) for label, path in pairs(negatives).items()]
    found = [
        {"label": label, "path": direct.folder(path if ":" in path else f"sources:{path}"), "negative": negative}
        for label, path, negative in listed
    ]
    _show(direct.run(generate_dataset_job, "generate_dataset", name, {"sources": found, **json.loads(options)}))


@app.local_entrypoint()
def preprocess(name: str, dataset: str, options: str = "{}") -> None:
    """`--dataset`: a run of generate, or `volume:path`."""
    spec = {"dataset": direct.folder(dataset), **json.loads(options)}
    _show(direct.run(preprocess_job, "preprocess", name, spec))


@app.local_entrypoint()
def train(name: str, dataset: str, options: str = "{}") -> None:
    """`--dataset`: a run of preprocess; `--options '{"max_steps": 100}'`: the recipe's own fields."""
    _show(direct.run(train_job, "train", name, {"data": direct.folder(dataset), **json.loads(options)}))


@app.local_entrypoint()
def evaluate(name: str, dataset: str, router: str = "", expert: str = "", options: str = "{}") -> None:
    """`--router` or `--expert`: a run of train, or `volume:path`."""
    adapters = {kind: _adapter(word) for kind, word in (("router", router), ("expert", expert)) if word}
    spec = {"data": direct.folder(dataset), **adapters, **json.loads(options)}
    _show(direct.run(evaluate_job, "evaluate", name, spec))


@app.local_entrypoint()
def stacked_inference(
    routing_run: str, routing_dataset: str, max_samples: int = 10, experts: str = "", options: str = "{}"
) -> None:
    """Route samples and let the chosen experts answer; experts lie under their names on the volume of checkpoints."""
    router = _adapter(routing_run)
    places = pairs(experts) or {label: label for label in direct.labels(router) if label != "none"}
    spec = {
        "data": direct.folder(routing_dataset),
        "router": router,
        "experts": {name: _adapter(path if ":" in path else f"checkpoints:{path}") for name, path in places.items()},
        "max_samples": max_samples,
        **json.loads(options),
    }
    report = direct.run(evaluate_job, "evaluate", f"{routing_run}-stacked-{time.time():.0f}", spec)
    for sample in report.get("samples", []):
        print(json.dumps(sample, ensure_ascii=False))
    _show({key: value for key, value in report.items() if key != "samples"})


def _adapter(word: str) -> dict[str, str]:
    """The folder of an adapter: a run of train keeps it in `final`."""
    found = direct.folder(word)
    return found if ":" in word else {**found, "path": f"{found['path']}/final"}


def _show(summary: dict[str, Any]) -> None:
    print(json.dumps(summary, indent=2, ensure_ascii=False))
