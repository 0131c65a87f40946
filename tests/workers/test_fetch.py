"""Adapters and source datasets from volumes of Modal's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from adapters.models import Adapter, AdapterVersion
from adapters.services import configured_base, register_adapter, store
from datasets_app.errors import InputError
from datasets_app.formats.digest import folder_digest
from datasets_app.models import SourceDataset
from datasets_app.places import Place
from datasets_app.services import register_source
from tests.adapter_files import write_expert
from tests.cast import make_client, make_source, make_version
from tests.modal_plane.plane import Plane
from tests.workers.recipes.recording import RecordingJob
from workers.models import Run
from workers.remote.fetch import Spec, run
from workers.remote.volumes import Folder, partials
from workers.services import add_expert, launch, retrain_router
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
    return write_expert(tmp_path_factory.mktemp("expert"))


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


def test_files_without_a_card_get_the_one_that_is_given(plane: Plane, drive: Drive, tmp_path: Path) -> None:
    """Which is checked before anything is queued, and refused beside their own before the weights are moved."""
    write_expert(plane.volume(CHECKPOINTS) / "calendar", with_card=False)
    wish: dict[str, Any] = {"what": "adapter", "name": "calendar", "place": f"{CHECKPOINTS}:calendar"}
    with pytest.raises(InputError, match="'human'"):
        launch("fetch", {**wish, "card": {"human": "{prompt}"}})
    run = fetch(drive, **wish, card={"system": "One tool call."})
    assert run.adapter_version is not None, run.error
    assert (run.adapter_version.card["system"], run.adapter_version.card["lineage"]) == (
        "One tool call.", {"card": "given"},
    )  # fmt: skip
    write_expert(plane.volume(CHECKPOINTS) / "calendar")
    base = configured_base()
    spec = {"what": "adapter", "place": wish["place"], "base": base.path, "base_fingerprint": base.fingerprint}
    assert "The files bring a card" in refusal(tmp_path, **spec, has_card="true")
    assert not list(tmp_path.rglob("*.safetensors"))


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
        folder.bring(entry, tmp_path / "files", seen.append)
    assert seen == [8 << 20, 16 << 20, 20 << 20, 20 << 20]
    assert plane.faults.calls["VolumeGetFile2"] == 1
    assert (tmp_path / "files" / "big").read_bytes() == bytes(20 * 2**20)


def test_no_files_share_a_partial_whatever_they_are_called(plane: Plane, tmp_path: Path) -> None:
    """Names of 255 bytes, alike in their first 200 characters, or like a partial's own."""
    names = ["a" * 254 + "1", "a" * 254 + "2", "ä" * 127, "x", ".x.partial"]
    for name in names:
        (plane.volume(SOURCES) / name).write_text(name)
    folder, into = Folder(Place(SOURCES, ".")), tmp_path / "files"
    seen: list[set[Path]] = []
    for entry in folder.files():
        folder.bring(entry, into, lambda _: seen.append(set(partials(into).iterdir())))
    assert {path.name: path.read_text() for path in into.iterdir()} == {name: name for name in names}
    assert [len(paths) for paths in seen] == [1] * len(names)
    assert len(set.union(*seen)) == len(names)


def test_a_version_is_uploaded_once_and_comes_back_as_it_was(
    plane: Plane, expert_files: Path, drive: Drive, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"{CHECKPOINTS}:made/calendar"
    call_command("save_lora", "calendar", str(expert_files), "--to", place)
    assert "uploaded adapter_config.json, adapter_model.safetensors, switchyard.json" in capsys.readouterr().out
    sent = plane.faults.calls["VolumePutFiles2"]
    call_command("save_lora", "calendar", "--to", place)
    assert f"{place}: was there already" in capsys.readouterr().out
    assert plane.faults.calls["VolumePutFiles2"] == sent
    there = plane.volume(CHECKPOINTS) / "made" / "calendar"
    assert store().add(there).digest == AdapterVersion.objects.get().digest


def test_unknown_files_are_replaced_only_if_told(plane: Plane, expert_files: Path) -> None:
    there = place_adapter(plane, expert_files, "calendar/final")
    config = there / "adapter_config.json"
    config.write_text("{}")
    upload = ("save_lora", "calendar", str(expert_files), "--to", f"{CHECKPOINTS}:calendar")
    with pytest.raises(CommandError, match=rf"{CHECKPOINTS}:calendar/final holds files that are no version known here"):
        call_command(*upload)
    assert config.read_text() == "{}"
    call_command(*upload, "--replace")
    assert config.read_bytes() == (expert_files / "adapter_config.json").read_bytes()


def test_an_expert_is_added_from_volumes_by_steps_that_fetch_first(db: None) -> None:
    make_version(register_adapter("claim-window", source=make_source("claim-window")))
    pipeline = add_expert(
        "calendar", source=f"{SOURCES}:calendar", adapter=f"{CHECKPOINTS}:calendar-tasks", pipeline="add"
    )
    first, second, *others = pipeline.steps
    assert [run.kind for run in (first, second)] == ["fetch", "fetch"]
    assert (first.params["what"], first.params["place"], first.params["expert"]) == (
        "source", f"{SOURCES}:calendar", "calendar",
    )  # fmt: skip
    assert (second.params["what"], second.params["place"]) == ("adapter", f"{CHECKPOINTS}:calendar-tasks")
    assert [run.kind for run in others] == ["generate_dataset", "preprocess", "train", "evaluate"]
    assert {run.backend for run in (first, second)} == {"local"}


def test_an_expert_from_a_place_that_cannot_be_is_refused_and_leaves_nothing(db: None) -> None:
    make_version(register_adapter("claim-window", source=make_source("claim-window")))
    with pytest.raises(InputError, match="without"):
        add_expert("calendar", source=f"{SOURCES}:../x")
    assert not Adapter.objects.filter(name="calendar").exists()
    assert not Run.objects.exists()


def test_what_was_fetched_is_fetched_again_when_the_router_is_trained_anew(db: None) -> None:
    for name in ("calendar", "claim-window"):
        source = make_source(name)
        source.origin = f"{SOURCES}:{name}"
        source.save()
        make_version(register_adapter(name, source=source))
    pipeline = retrain_router(pipeline="anew")
    fetched = [run.params["place"] for run in pipeline.steps if run.kind == "fetch"]
    assert fetched == [f"{SOURCES}:calendar", f"{SOURCES}:claim-window"]


@pytest.mark.parametrize("page", ["datasets_app_sourcedataset", "adapters_adapter"])
def test_a_form_takes_a_place_and_leads_to_the_run_that_fetches_it(admin_client: Client, page: str) -> None:
    fields = {"name": "calendar", "path": f"{SOURCES}:calendar", "format": "llava"}
    if page == "adapters_adapter":
        fields = {"name": "calendar", "kind": "expert", "files": f"{CHECKPOINTS}:calendar", "description": ""}
    answer = admin_client.post(reverse(f"admin:{page}_add"), fields)
    run = Run.objects.get()
    assert (run.kind, run.params["place"]) == ("fetch", fields.get("path") or fields["files"])
    assert answer.headers["Location"] == reverse("admin:workers_run_change", args=[run.pk])


def test_the_api_fetches_by_a_run_and_says_so(db: None) -> None:
    client = make_client(staff=True)
    place = f"{SOURCES}:calendar"
    refused = client.post("/api/v1/sources/", {"name": "calendar", "path": place}, format="json")
    assert refused.status_code == 400
    assert "kind fetch" in refused.json()["error"]["message"]
    wish = {"what": "source", "name": "calendar", "place": place}
    launched = client.post("/api/v1/runs/", {"kind": "fetch", "params": wish}, format="json")
    assert launched.status_code == 201, launched.content
    assert client.post(
        "/api/v1/runs/", {"kind": "fetch", "params": wish, "backend": "modal"}, format="json"
    ).status_code == 400  # fmt: skip


def test_the_owners_file_is_imported_from_modal_where_its_volumes_are_not_here(
    tmp_path: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.VOLUMES_ROOT = tmp_path
    file = Path(__file__).parents[2] / "config/loras.json"
    call_command("import_loras", str(file), "--detach")
    runs = Run.objects.order_by("id")
    assert [run.params["place"] for run in runs] == [
        f"{CHECKPOINTS}:calendar-tasks", f"{CHECKPOINTS}:claim-window", f"{CHECKPOINTS}:provider-select",
    ]  # fmt: skip
    assert {run.kind for run in runs} == {"fetch"}
