"""A refused registration leaves nothing behind, whoever asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from adapters.models import Adapter, AdapterVersion
from adapters.services import import_adapter, register_adapter, store
from datasets_app.errors import InputError
from datasets_app.models import SourceDataset
from tests.adapter_files import write_expert
from tests.cast import make_client, make_source, make_version

pytestmark = pytest.mark.django_db


def without_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def of_a_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x02}.")


def of_another_method(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))


def of_another_kind(folder: Path) -> None:
    card = json.loads((folder / "switchyard.json").read_text())
    (folder / "switchyard.json").write_text(json.dumps(card | {"kind": "router", "labels": ["a", "b"]}))


def by_save_lora(folder: Path) -> None:
    with pytest.raises(CommandError):
        call_command("save_lora", "calendar", str(folder))


def by_api(folder: Path) -> None:
    body = {"name": "calendar", "path": str(folder)}
    assert make_client(staff=True).post("/api/v1/adapters/", body, format="json").status_code == 400


def by_admin(folder: Path) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    data = {"name": "calendar", "kind": "expert", "source": "", "description": "", "files": str(folder)}
    client.post("/admin/adapters/adapter/add/", data)


def by_import_loras(folder: Path) -> None:
    entry = {"volume": folder.parent.name, "path": folder.name}
    (folder.parent / "loras.json").write_text(json.dumps({"loras": {"calendar": entry}}))
    with pytest.raises(CommandError):
        call_command("import_loras", str(folder.parent / "loras.json"))


def by_training(folder: Path) -> None:
    with pytest.raises(InputError):
        import_adapter("calendar", folder, kind=Adapter.Kind.EXPERT)


@pytest.mark.parametrize("damage", [without_weights, of_a_pickle, of_another_method, of_another_kind])
@pytest.mark.parametrize("register", [by_save_lora, by_api, by_admin, by_import_loras, by_training])
def test_a_refused_registration_leaves_nothing_behind(
    register: Callable[[Path], None], damage: Callable[[Path], None], tmp_path: Path, settings: Any
) -> None:
    settings.VOLUMES_ROOT = tmp_path
    folder, kept = write_expert(tmp_path / "volume" / "calendar"), set(store().root.iterdir())
    damage(folder)
    register(folder)
    assert not Adapter.objects.exists()
    assert set(store().root.iterdir()) == kept


def test_adding_an_expert_that_is_refused_leaves_nothing_behind(tmp_path: Path, samples: dict[str, Path]) -> None:
    make_version(register_adapter("claim-window", source=make_source("claim-window")))
    kept = set(store().root.iterdir())
    folder = write_expert(tmp_path / "calendar")
    of_another_kind(folder)
    with pytest.raises(CommandError):
        call_command("add_expert", "calendar", "--source", str(samples["calendar"]), "--adapter", str(folder))
    assert [adapter.name for adapter in Adapter.objects.all()] == ["claim-window"]
    assert [source.name for source in SourceDataset.objects.all()] == ["claim-window"]
    assert set(store().root.iterdir()) == kept


def test_a_refused_version_leaves_the_adapter_as_it_was(tmp_path: Path) -> None:
    folder = write_expert(tmp_path / "calendar")
    call_command("save_lora", "calendar", str(folder))
    source = make_source("calendar-screens")
    of_another_method(folder)
    with pytest.raises(CommandError):
        call_command("save_lora", "calendar", str(folder), "--source", source.name)
    adapter = Adapter.objects.get()
    assert (adapter.source, adapter.current) == (None, AdapterVersion.objects.get())
