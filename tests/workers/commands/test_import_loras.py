"""`import_loras` and `save_lora`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from adapters.models import Adapter, BaseModel
from adapters.services import register_adapter
from datasets_app.errors import InputError
from datasets_app.models import SourceDataset
from tests.cast import make_base, make_source, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def volumes(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume with two experts, one of them in a `final/` subfolder; files are taken as they are."""
    settings.VOLUMES_ROOT = tmp_path / "volumes"
    for folder in ("calendar-tasks/final", "claims"):
        place = settings.VOLUMES_ROOT / "checkpoints" / folder
        place.mkdir(parents=True)
        (place / "adapter_config.json").write_text("{}")

    def store_files(folder: str, kind: str, base: BaseModel, card: object) -> None:
        if "claims" in folder and (Path(folder) / "broken").exists():
            raise InputError("adapter_model.safetensors is missing.")

    def import_adapter(name: str, folder: str, kind: str, source: SourceDataset | None, card: object) -> Any:
        return make_version(register_adapter(name, kind=kind, source=source))

    monkeypatch.setattr("adapters.services.configured_base", make_base)
    monkeypatch.setattr("workers.management.commands.import_loras.configured_base", make_base)
    monkeypatch.setattr("workers.management.commands.import_loras.store_files", store_files)
    monkeypatch.setattr(
        "workers.management.commands.import_loras.record_version", lambda adapter, _: make_version(adapter)
    )
    monkeypatch.setattr("workers.management.commands.save_lora.import_adapter", import_adapter)
    return tmp_path / "volumes"


def write(tmp_path: Path, content: Any) -> str:
    file = tmp_path / "loras.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def entry(path: str, volume: str = "checkpoints") -> dict[str, str]:
    return {"volume": volume, "path": path}


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    assert caught.value.returncode == 2
    return str(caught.value)


def test_every_expert_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And `final/` is found by itself."""
    file = write(tmp_path, {"loras": {"calendar": entry("calendar-tasks"), "claim-window": entry("claims")}})
    call_command("import_loras", file)
    assert set(Adapter.objects.values_list("name", flat=True)) == {"calendar", "claim-window"}
    assert "calendar v1: sha256:" in capsys.readouterr().out


def test_one_that_is_broken_stops_all(tmp_path: Path, volumes: Path) -> None:
    """Nothing is half-imported."""
    (volumes / "checkpoints/claims/broken").touch()
    file = write(tmp_path, {"loras": {"calendar": entry("calendar-tasks"), "claim-window": entry("claims")}})
    assert "'claim-window': adapter_model.safetensors is missing." in refusal("import_loras", file)
    assert not Adapter.objects.exists()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        [],
        {},
        {"loras": []},
        {"loras": {"calendar": {"volume": "checkpoints"}}},
        {"loras": {"calendar": {"volume": "checkpoints", "path": "calendar-tasks", "url": "x"}}},
        {"loras": {"calendar": entry("nothing")}},
        {"loras": {"calendar": entry("../../../../etc")}},
        {"loras": {"calendar": entry("/etc")}},
        {"loras": {"calendar": entry("calendar-tasks", "../volumes/checkpoints")}},
        {"loras": {"../x": entry("calendar-tasks")}},
        {"loras": {"none": entry("calendar-tasks")}},
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, content: Any) -> None:
    """That names the file."""
    message = refusal("import_loras", write(tmp_path, content))
    assert "loras.json" in message
    assert not Adapter.objects.exists()


def test_a_missing_file_is_one_sentence() -> None:
    """Exit code 2."""
    assert "No such file" in refusal("import_loras", "/nowhere/loras.json")


def test_the_example_is_readable() -> None:
    """config/loras.json has the format that the command reads."""
    from workers.management.loras import read

    assert "calendar" in read(Path(__file__).parents[3] / "config/loras.json").loras


def test_save_lora_registers_and_stores(capsys: pytest.CaptureFixture[str]) -> None:
    """With the source."""
    make_source("calendar")
    call_command("save_lora", "calendar", "/somewhere", "--source", "calendar")
    assert Adapter.objects.get().source == make_source("calendar")
    assert capsys.readouterr().out.startswith("calendar v1: sha256:")
    assert "no source dataset 'x'" in refusal("save_lora", "calendar", "/somewhere", "--source", "x")
