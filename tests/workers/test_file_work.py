"""Files are read and stored while everybody else may write: before a transaction, never in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from adapters.models import Adapter, AdapterVersion
from adapters.store import Store
from datasets_app import services as datasets
from datasets_app.errors import InputError
from datasets_app.models import SourceDataset
from tests.cast import make_champion, make_client
from workers.models import Pipeline, Run

pytestmark = pytest.mark.django_db


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read while how many transactions were open beside the test's own; the store refuses every adapter."""
    found: list[str] = []
    own = len(connection.atomic_blocks)

    def note(what: str) -> None:
        found.append(f"{what} in {len(connection.atomic_blocks) - own} transactions")

    def refuse(store: Store, *arguments: object, **options: object) -> None:
        note("files")
        raise InputError("These files are broken.")

    inspect = datasets.inspect_source

    def inspected(*arguments: Any) -> Any:
        note("rows")
        return inspect(*arguments)

    monkeypatch.setattr(Store, "add", refuse)
    monkeypatch.setattr(datasets, "inspect_source", inspected)
    return found


@pytest.fixture
def page() -> Callable[[str, dict[str, Any]], str]:
    """A form of the admin, filled in and sent by somebody who may do everything; what is answered."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return lambda url, data: client.post(f"/admin/{url}/add/", data, follow=True).content.decode()


def rows() -> list[int]:
    return [model._default_manager.count() for model in (Adapter, AdapterVersion, SourceDataset, Run, Pipeline)]


def test_an_adapter_over_the_api(seen: list[str], tmp_path: Path) -> None:
    response = make_client(staff=True).post("/api/v1/adapters/", {"name": "x", "path": str(tmp_path)}, format="json")
    assert (response.status_code, seen, rows()) == (400, ["files in 0 transactions"], [0] * 5)


def test_many_adapters_by_a_command(seen: list[str], tmp_path: Path, settings: Any) -> None:
    settings.VOLUMES_ROOT = tmp_path / "volumes"
    (settings.VOLUMES_ROOT / "loras" / "x").mkdir(parents=True)
    (settings.VOLUMES_ROOT / "loras" / "x" / "adapter_config.json").write_text("{}")
    (tmp_path / "loras.json").write_text(json.dumps({"loras": {"x": {"volume": "loras", "path": "x"}}}))
    with pytest.raises(CommandError, match="'x': These files are broken"):
        call_command("import_loras", str(tmp_path / "loras.json"))
    assert (seen, rows()) == (["files in 0 transactions"], [0] * 5)


def test_an_adapter_in_the_admin(seen: list[str], page: Callable[..., str], tmp_path: Path) -> None:
    answer = page("adapters/adapter", {"name": "x", "kind": "expert", "description": "", "files": str(tmp_path)})
    assert "These files are broken." in answer
    assert (seen, rows()) == (["files in 0 transactions"], [0] * 5)


def test_a_source_dataset_in_the_admin(seen: list[str], page: Callable[..., str], samples: dict[str, Path]) -> None:
    page("datasets_app/sourcedataset", {"name": "x", "path": str(samples["calendar"]), "format": "llava"})
    assert seen == ["rows in 0 transactions"]
    assert SourceDataset.objects.get().rows == 80


def test_an_expert_in_the_admin(
    seen: list[str], page: Callable[..., str], samples: dict[str, Path], tmp_path: Path
) -> None:
    make_champion()
    before = rows()
    wish = {"kind": "add_expert", "expert": "provider-select", "source": str(samples["provider-select"])}
    assert "These files are broken." in page("workers/pipeline", {**wish, "files": str(tmp_path), "train": "{}"})
    assert (seen, rows()) == (["rows in 0 transactions", "files in 0 transactions"], before)


def test_an_expert_whose_pipeline_cannot_be_launched_is_not_registered(
    page: Callable[..., str], samples: dict[str, Path]
) -> None:
    make_champion()
    Pipeline.objects.create(name="taken")
    before = rows()
    wish = {"kind": "add_expert", "expert": "provider-select", "source": str(samples["provider-select"])}
    assert "taken" in page("workers/pipeline", {**wish, "name": "taken", "train": "{}"})
    assert rows() == before
