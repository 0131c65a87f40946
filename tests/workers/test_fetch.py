"""Adapters and source datasets from volumes of Modal's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapters.backbone.spec import TINY_BASE, BaseSpec, fingerprint, pixel_budget
from adapters.base_shape import BaseShape
from adapters.card import AdapterCard
from adapters.models import Adapter, AdapterVersion
from adapters.services import configured_base, store
from datasets_app.errors import InputError
from datasets_app.formats.digest import folder_digest
from datasets_app.models import SourceDataset
from datasets_app.places import Place
from datasets_app.services import register_source
from tests.modal_plane.plane import Plane
from tests.workers.recipes.recording import RecordingJob
from workers.models import Run
from workers.remote.fetch import Spec, run
from workers.remote.volumes import Folder
from workers.services import launch
from workers.states import Status

Drive = Callable[..., Run]

pytestmark = pytest.mark.django_db

SOURCES, CHECKPOINTS = "claimhawk-training-data", "moe-lora-checkpoints"


@pytest.fixture(autouse=True)
def volumes(plane: Plane) -> Iterator[None]:
    """The owner's volumes, empty."""
    folders = [plane.volume(name) for name in (SOURCES, CHECKPOINTS)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    yield


@pytest.fixture(scope="module")
def expert_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An expert of the tiny base that says nothing useful, but fits."""
    folder, shape, rank = tmp_path_factory.mktemp("expert"), BaseShape.read(TINY_BASE), 2
    tensors = {}
    for layer in range(shape.layers):
        inner, outer = shape.features["q_proj"]
        stem = f"base_model.model.model.language_model.layers.{layer}.self_attn.q_proj"
        tensors[f"{stem}.lora_A.weight"] = np.full((rank, inner), 0.5, np.float32)
        tensors[f"{stem}.lora_B.weight"] = np.full((outer, rank), 0.5, np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    spec = BaseSpec(str(TINY_BASE))
    low, high = pixel_budget(spec)
    AdapterCard(kind="expert", base=fingerprint(spec), min_pixels=low, max_pixels=high).write(folder)
    return folder


def refusal(tmp_path: Path, **fields: str) -> str:
    """What the recipe says."""
    with pytest.raises(InputError) as refused:
        run(Spec.model_validate(fields), RecordingJob(tmp_path))
    return str(refused.value)


def fetch(drive: Drive, **params: object) -> Run:
    return drive(launch("fetch", params))


def test_a_source_dataset_is_fetched_checked_and_registered_with_its_content(
    plane: Plane, samples: dict[str, Path], drive: Drive
) -> None:
    shutil.copytree(samples["calendar"], plane.volume(SOURCES) / "drawn" / "calendar")
    run = fetch(drive, what="source", name="calendar", place=f"{SOURCES}:drawn/calendar", expert="calendar")
    assert run.status == Status.SUCCEEDED, run.error
    row = SourceDataset.objects.get(name="calendar")
    assert (row.origin, row.digest) == (f"{SOURCES}:drawn/calendar", folder_digest(samples["calendar"]))
    assert row.rows == register_source("here", samples["calendar"]).rows
    assert folder_digest(Path(row.path)) == row.digest
    assert Adapter.objects.get(name="calendar").source == row
    assert run.backend == "local"
    assert run.progress["percent"] == 100


def place_adapter(plane: Plane, files: Path, path: str) -> Path:
    return Path(shutil.copytree(files, plane.volume(CHECKPOINTS) / path))


def test_an_adapter_is_fetched_from_its_final_subfolder_into_the_store(
    plane: Plane, expert_files: Path, drive: Drive
) -> None:
    place_adapter(plane, expert_files, "calendar-tasks/final")
    run = fetch(drive, what="adapter", name="calendar", place=f"{CHECKPOINTS}:calendar-tasks")
    assert run.status == Status.SUCCEEDED, run.error
    version = AdapterVersion.objects.get(adapter__name="calendar")
    assert run.adapter_version == version
    assert version.digest == store().add(expert_files).digest
    assert run.summary["place"] == f"{CHECKPOINTS}:calendar-tasks/final"


def broken_header(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])


def other_base(folder: Path) -> None:
    card = json.loads((folder / "switchyard.json").read_text())
    (folder / "switchyard.json").write_text(json.dumps({**card, "base": "another"}))


def no_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (broken_header, "adapter_model.safetensors is not a safetensors file"),
        (other_base, "switchyard.json, field 'base'"),
        (no_weights, "adapter_model.safetensors is missing"),
    ],
)
def test_an_adapter_that_is_broken_is_refused_by_place_and_file_before_its_weights_are_moved(
    plane: Plane, expert_files: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(place_adapter(plane, expert_files, "x"))
    base = configured_base()
    wish = {"what": "adapter", "place": f"{CHECKPOINTS}:x", "base": base.path, "base_fingerprint": base.fingerprint}
    assert refusal(tmp_path, **wish).startswith(f"{CHECKPOINTS}:x: {words}")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_weights_that_are_not_finite_fail_the_run_with_the_place(
    plane: Plane, expert_files: Path, drive: Drive
) -> None:
    weights = place_adapter(plane, expert_files, "x") / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64] + b"\xff" * 64)
    run = fetch(drive, what="adapter", name="calendar", place=f"{CHECKPOINTS}:x")
    assert run.status == Status.FAILED
    assert run.error.startswith(f"{CHECKPOINTS}:x: adapter_model.safetensors has NaN or Inf")
    assert not AdapterVersion.objects.exists()


def test_a_source_dataset_with_a_wrong_row_is_refused_by_place_file_and_line(plane: Plane, tmp_path: Path) -> None:
    folder = plane.volume(SOURCES) / "x"
    folder.mkdir()
    (folder / "data.jsonl").write_text('{"id": "1"}\n')
    assert refusal(tmp_path, what="source", place=f"{SOURCES}:x").startswith(f"{SOURCES}:x, data.jsonl, line 1:")


@pytest.mark.parametrize(
    ("place", "words"),
    [("no-such-volume:x", "There is no volume 'no-such-volume'"), (f"{SOURCES}:nothing", "there are no files")],
)
def test_a_place_that_is_not_there_is_named(tmp_path: Path, place: str, words: str) -> None:
    error = refusal(tmp_path, what="source", place=place)
    assert words in error
    assert place in error


def test_a_source_dataset_over_the_caps_is_refused_before_it_is_moved(
    plane: Plane, samples: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(samples["calendar"], plane.volume(SOURCES) / "x")
    error = refusal(tmp_path, what="source", place=f"{SOURCES}:x", max_files="5")
    assert f"{SOURCES}:x holds" in error
    assert plane.faults.calls["VolumeGetFile2"] == 0


@pytest.mark.parametrize("place", ["x", "volume:../x", "volume:a\\b", "../x:y", "volume:a\nb", f"volume:{'x' * 2000}"])
def test_a_place_that_cannot_be_is_refused_before_anything_is_queued(place: str) -> None:
    with pytest.raises(InputError, match="volume"):
        launch("fetch", {"what": "source", "name": "calendar", "place": place})
    assert not Run.objects.exists()


def test_what_is_here_already_is_not_moved_again(plane: Plane, tmp_path: Path) -> None:
    (plane.volume(SOURCES) / "big").write_bytes(bytes(20 * 2**20))
    folder, seen = Folder(Place(SOURCES, ".")), []
    (entry,) = folder.files()
    for _ in range(2):
        folder.bring(entry, tmp_path / "big", seen.append)
    assert seen == [8 << 20, 16 << 20, 20 << 20, 20 << 20]
    assert plane.faults.calls["VolumeGetFile2"] == 1
    assert (tmp_path / "big").read_bytes() == bytes(20 * 2**20)
