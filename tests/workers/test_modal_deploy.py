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
