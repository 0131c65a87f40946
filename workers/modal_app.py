"""The app on Modal: `modal deploy -m workers.modal_app`.

Recipes and names live elsewhere; here is only what Modal needs to know. Jobs are spawned by name and leave their
results on the data volume. The control plane never imports this module.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import modal

from workers.remote.code import PACKAGES, code_digest
from workers.remote.names import Names

MINUTES = 60
HOURS = 60 * MINUTES
PYTHON = "3.11"
UV = "0.13.9"
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
GPUS = os.environ.get("SWITCHYARD_MODAL_GPUS", "H100,A100-80GB,L40S").split(",")

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


@app.function(image=image, volumes=MOUNTED, cpu=8, memory=32768, timeout=2 * HOURS, single_use_containers=True)
def generate_dataset_job(launch: str) -> None:
    """Draw a routing dataset from source datasets."""
    job.run(launch, claims, data)


@app.function(image=image, volumes=MOUNTED, cpu=8, memory=32768, timeout=4 * HOURS, single_use_containers=True)
def preprocess_job(launch: str) -> None:
    """Convert a dataset to what training reads."""
    job.run(launch, claims, data)


@app.function(image=image, volumes=MOUNTED, gpu=GPUS, timeout=24 * HOURS, single_use_containers=True)
def train_job(launch: str) -> None:
    """Train an adapter; a restart goes on from the last checkpoint."""
    job.run(launch, claims, data)


@app.function(image=image, volumes=MOUNTED, gpu=GPUS, timeout=4 * HOURS, single_use_containers=True)
def evaluate_job(launch: str) -> None:
    """Evaluate an adapter or a stack on held-out samples."""
    job.run(launch, claims, data)
