"""`modal deploy -m workers.modal_app` with a mistake in its settings, or on volumes older than the product."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import modal
import pytest

from adapters.backbone.spec import TINY_BASE, BaseError
from datasets_app.errors import InputError
from datasets_app.places import Place
from tests.modal_plane.plane import Plane
from workers.remote import job
from workers.remote.inference import Inference
from workers.remote.serving import Serving
from workers.remote.volumes import Folder, open_or_make


def refused(plane: Plane, **environment: str) -> str:
    """What `modal deploy` says with this environment, and deploys nothing."""
    words = [sys.executable, "-m", "modal", "deploy", "-m", "workers.modal_app"]
    done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_a_base_that_no_container_has_is_refused_in_a_line(plane: Plane) -> None:
    said = refused(plane, SWITCHYARD_BASE=str(TINY_BASE))
    assert said.startswith("error: SWITCHYARD_BASE: ") and said.count("\n") == 1
    assert "base:<its folder there>" in said
    with pytest.raises(InputError, match="pin its revision"):
        Serving(base="Qwen/Qwen3-VL-8B-Instruct").check()
    for base in ("", "base:mine"):
        Serving(base=base).check()


@pytest.mark.parametrize("setting", ["SWITCHYARD_MODAL_GPUS", "SWITCHYARD_MODAL_SERVING_GPUS"])
def test_several_gpus_for_a_container_are_refused_in_a_line(plane: Plane, setting: str) -> None:
    said = refused(plane, **{setting: "A100-80GB:1,h100:2"})
    assert said.startswith(f"error: {setting}: 'H100:2' asks for several GPUs") and said.count("\n") == 1


def test_the_control_plane_refuses_several_gpus_for_a_container() -> None:
    words = [sys.executable, "manage.py", "check"]
    environment = os.environ | {"SWITCHYARD_MODAL_GPUS": "H100:2"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("SWITCHYARD_MODAL_GPUS: 'H100:2' asks for several GPUs, and a container computes on one: write H100.")
    )


def test_a_job_on_a_gpu_has_cores_and_memory_and_ten_minutes_to_start(plane: Plane) -> None:
    environment = os.environ | {"SWITCHYARD_MODAL_APP": "rented", "SWITCHYARD_MODAL_GPUS": "H100"}
    words = [sys.executable, "-m", "modal", "deploy", "-m", "workers.modal_app"]
    subprocess.run(words, env=environment, check=True, timeout=300)
    jobs = {
        function.definition.function_name: function.definition
        for function in plane.apps.functions.values()
        if function.app is plane.apps.deployed["rented"] and function.definition.function_name.endswith("_job")
    }
    assert {name: job.startup_timeout_secs for name, job in jobs.items()} == dict.fromkeys(jobs, 600)
    assert jobs["train_job"].timeout_secs == 24 * 3600
    reserved = {name: (job.resources.milli_cpu, job.resources.memory_mb) for name, job in jobs.items()}
    assert reserved["train_job"] == reserved["evaluate_job"] == (4000, 32768)
    assert reserved["preprocess_job"] == reserved["generate_dataset_job"] == (8000, 32768)
    assert jobs["train_job"].resources.gpu_config.gpu_type == "H100"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train --name a --dataset nobody", "'nobody': neither a finished run nor a folder on the volume 'data'."),
        ("evaluate --name a --dataset nothing:x", "'nothing:x': there is no volume 'nothing'"),
        ("generate --name ../a --sources calendar", "name"),
    ],
)
def test_modal_run_tells_what_is_wrong_with_a_name_without_a_traceback(plane: Plane, line: str, words: str) -> None:
    entry, *options = line.split()
    command = [sys.executable, "-m", "modal", "run", "-m", f"workers.modal_app::{entry}", *options]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=300, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert f"error: {words}" in said or (words == "name" and "error: " in said)
    assert "Traceback" not in said and "modal_app.py" not in said


def test_a_volume_that_can_be_neither_opened_nor_made_is_named_with_its_setting(plane: Plane) -> None:
    with pytest.raises(InputError, match=r"^SWITCHYARD_MODAL_DATA: the volume 'no name' can be neither"):
        open_or_make("no name", "SWITCHYARD_MODAL_DATA")


@pytest.mark.parametrize("version", [1, 2])
def test_a_volume_of_either_version_is_opened_as_it_is(plane: Plane, tmp_path: Path, version: int) -> None:
    name = f"old-{uuid.uuid4().hex}"
    modal.Volume.objects.create(name, version=version)
    open_or_make(name, "SETTING").hydrate()
    assert plane.volumes.versions[name] == version
    (tmp_path / "a").write_text("one")
    folder = Folder(Place(name, "x"))
    assert folder.files() == []
    folder.send({"y/a": tmp_path / "a"})
    (entry,) = folder.files()
    assert (entry.name, entry.size) == ("y/a", 3)
    assert folder.read(entry, 2) == b"on"
    folder.bring(entry, tmp_path / "back", lambda written: None)
    assert (tmp_path / "back" / "y" / "a").read_text() == "one"
    folder.volume.remove_file("x", recursive=True)
    assert folder.files() == []


def test_a_container_needs_no_django() -> None:
    block = "import sys; sys.modules['django'] = None; "
    code = "import workers.remote.direct, workers.remote.job, workers.remote.inference, workers.recipes.train"
    subprocess.run([sys.executable, "-c", block + code], check=True)


def test_who_rented_a_gpu_computes_on_it_or_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(job, "MACHINES", {"train": ["H100"], "preprocess": ["cpu"]})
    assert job._here("train", {"seed": 1}) == {"device": "cuda", "seed": 1}
    assert job._here("train", {"device": "cpu"}) == {"device": "cpu"}
    assert job._here("preprocess", {}) == {}
    inference = Inference(Serving(gpus="H100", dtype="float32"), modal.Volume.from_name("nothing"), tmp_path)
    with pytest.raises(BaseError, match="device 'cuda' is not there: this machine has 0 GPUs"):
        inference.start()
