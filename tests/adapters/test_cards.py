"""What files without a card are served with, and who says so."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from adapters.backbone.spec import BaseSpec, pixel_budget
from adapters.card import AdapterCard
from adapters.models import Adapter, AdapterVersion
from adapters.services import check_card, configured_base, register_adapter, store
from adapters.validation import validate_card
from controlplane.env import ROOT
from datasets_app.errors import InputError
from tests.adapter_files import write_expert
from tests.cast import make_client, make_source, make_version
from workers.services import add_expert

pytestmark = pytest.mark.django_db


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """An expert's, without a card."""
    return write_expert(tmp_path / "calendar", with_card=False)


def documented(section: str) -> list[Any]:
    """The JSON examples below that heading of docs/data.md."""
    text = (ROOT / "docs" / "data.md").read_text().partition(f"## {section}")[2].partition("\n## ")[0]
    return [json.loads(block.partition("```")[0]) for block in text.split("```json")[1:]]


def test_an_assumed_card_is_told_in_a_sentence(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low, high = pixel_budget(BaseSpec())
    call_command("save_lora", "calendar", str(files))
    out, err = capsys.readouterr()
    assert out.startswith("calendar v1: sha256:")
    assert err.splitlines() == [
        'calendar v1 is served with no system turn, the human turn "<image>\\n{prompt}", screenshots of '
        f"{low} to {high} pixels and a base of whatever dtype. "
        "Its files have no card: if it was trained otherwise, add them again with --card FILE (docs/data.md)."
    ]
    assert AdapterVersion.objects.get().note == err.strip()


def test_a_given_card_makes_another_version_which_is_hashed_with_it(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the docs show it."""
    _, example = documented("The card")
    (files.parent / "card.json").write_text(json.dumps(example))
    call_command("save_lora", "calendar", str(files))
    for _ in range(2):
        call_command("save_lora", "calendar", str(files), "--card", str(files.parent / "card.json"))
    given, assumed = AdapterVersion.objects.order_by("-number")
    assert given.adapter.current == given
    assert given.digest != assumed.digest
    card = AdapterCard.read(store().path(given.digest))
    assert example.items() <= card.model_dump().items()
    assert card.human == "<image>\n{prompt}"
    assert f'calendar v2 is served with the system turn "{example["system"]}"' in capsys.readouterr().err
    assert "no card" not in given.note


def test_of_files_with_a_card_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("save_lora", "calendar", str(write_expert(tmp_path)))
    assert capsys.readouterr().err == ""
    assert AdapterVersion.objects.get().note == ""


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("{", "card.json: This is not valid JSON"),
        ("[]", "card.json: A JSON object is needed"),
        ('{"human": "Hello"}', "field 'human'"),
        ('{"humans": "Hello"}', "field 'humans'"),
        ('{"base": "another"}', "field 'base'"),
        (
            json.dumps({"human": "<image>" + "x" * 50_000}),
            "field 'human': the card's texts have 50007 characters together",
        ),
        (
            json.dumps({"system": "x" * 900_000}),
            "field 'system': the card's texts have 900016 .* context of 4096 tokens",
        ),
        ('{"system": "a", "system": "b"}', "card.json: The key 'system' occurs twice"),
        ('{"kind": "router", "labels": ["a", "b"]}', "holds a router"),
        ('{"min_pixels": -1}', "field 'min_pixels'"),
        (None, "card.json cannot be read: No such file"),
    ],
)
def test_a_wrong_card_is_one_sentence(files: Path, card: str | None, words: str) -> None:
    file = files.parent / "card.json"
    if card is not None:
        file.write_text(card)
    with pytest.raises(CommandError, match=words) as refused:
        call_command("save_lora", "calendar", str(files), "--card", str(file))
    assert refused.value.returncode == 2
    assert not AdapterVersion.objects.exists()


def test_files_that_bring_a_card_are_given_no_other(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(CommandError, match="The files bring a card"):
        call_command("save_lora", "calendar", str(write_expert(tmp_path)), "--card", str(tmp_path / "card.json"))
    with pytest.raises(CommandError, match="give their PATH"):
        call_command("save_lora", "calendar", "--card", str(tmp_path / "card.json"))


def test_many_are_imported_each_with_its_card(
    files: Path, tmp_path: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.VOLUMES_ROOT = tmp_path / "volumes"
    for name in ("calendar", "claim-window"):
        write_expert(tmp_path / "volumes" / "mine" / name, with_card=False)
    (tmp_path / "card.json").write_text('{"system": "One tool call."}')
    entries = {name: {"volume": "mine", "path": name} for name in ("calendar", "claim-window")}
    entries["calendar"]["card"] = "card.json"
    (tmp_path / "loras.json").write_text(json.dumps({"loras": entries}))
    call_command("import_loras", str(tmp_path / "loras.json"))
    given, assumed = capsys.readouterr().err.splitlines()
    assert given.startswith('calendar v1 is served with the system turn "One tool call."')
    assert "Its files have no card" in assumed


@pytest.mark.parametrize("field", ["human", "system"])
@pytest.mark.parametrize("length", [4_097, 50_000, 900_000])
def test_a_text_longer_than_the_context_is_refused_at_the_registration(files: Path, field: str, length: int) -> None:
    """Whether it is given or the files bring it."""
    client, text = make_client(staff=True), "<image>\n{prompt}".ljust(length, "x")
    body: dict[str, Any] = {"name": "calendar", "path": str(files)}
    given = client.post("/api/v1/adapters/", body | {"card": {field: text}}, format="json")
    low, high = pixel_budget(BaseSpec())
    card = {"kind": "expert", "base": configured_base().fingerprint, "min_pixels": low, "max_pixels": high, field: text}
    (files / "switchyard.json").write_text(json.dumps(card))
    brought = client.post("/api/v1/adapters/", body, format="json")
    for refused in (given, brought):
        assert refused.status_code == 400
        assert f"field '{field}': the card's texts" in refused.json()["error"]["message"]
    assert not Adapter.objects.exists()


def test_a_routers_labels_are_bounded_too(files: Path) -> None:
    labels = [f"expert-{number}" for number in range(1_000)]
    with pytest.raises(InputError, match="field 'labels': the card's texts"):
        check_card("router", {"labels": labels})


def test_files_may_begin_with_a_byte_order_mark(files: Path) -> None:
    """Which the stored ones do not, as PEFT and vLLM take none."""
    config = files / "adapter_config.json"
    config.write_bytes(codecs.BOM_UTF8 + config.read_bytes())
    card = files.parent / "card.json"
    card.write_bytes(codecs.BOM_UTF8 + b'{"system": "One tool call."}')
    call_command("save_lora", "calendar", str(files), "--card", str(card))
    stored = store().path(AdapterVersion.objects.get().digest)
    assert json.loads((stored / "adapter_config.json").read_text()) == json.loads(config.read_text("utf-8-sig"))


@pytest.mark.usefixtures("modal_token")
def test_adding_an_expert_says_so_too(
    files: Path, samples: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_version(register_adapter("claim-window", source=make_source("claim-window")))
    add = ("add_expert", "calendar", "--source", str(samples["calendar"]), "--detach")
    call_command(*add, "--adapter", str(files))
    assert "calendar v1 is served with no system turn" in capsys.readouterr().err
    (files.parent / "card.json").write_text('{"system": "One tool call."}')
    call_command(*add, "--adapter", str(files), "--card", str(files.parent / "card.json"), "--pipeline", "again")
    assert "calendar v2 is served with the system turn" in capsys.readouterr().err
    with pytest.raises(CommandError, match="an expert that is trained gets its own"):
        call_command(*add, "--card", str(files.parent / "card.json"))
    add_expert("calendar", source="volume:x", adapter="volume:y", card={"system": "x"}, pipeline="volumes")


def test_the_api_takes_a_card_and_says_what_is_assumed(files: Path) -> None:
    client = make_client(staff=True)
    assert client.post("/api/v1/adapters/", {"name": "calendar", "path": str(files)}, format="json").status_code == 201
    assert "no system turn" in client.get("/api/v1/adapters/calendar/versions/1/").json()["note"]
    body: dict[str, Any] = {"path": str(files), "card": {"system": "One tool call."}}
    made = client.post("/api/v1/adapters/calendar/versions/", body, format="json").json()
    assert (made["number"], made["card"]["system"]) == (2, "One tool call.")
    refused = client.post("/api/v1/adapters/calendar/versions/", {**body, "card": {"humans": "x"}}, format="json")
    assert refused.status_code == 400


def test_the_admin_says_what_is_assumed(client: Client, files: Path) -> None:
    client.force_login(User.objects.create_superuser("root"))
    data = {"name": "calendar", "kind": "expert", "source": "", "description": "", "files": str(files)}
    page = client.post("/admin/adapters/adapter/add/", data, follow=True)
    version = AdapterVersion.objects.get()
    assert version.note in page.context["messages"]._loaded_data[0].message
    shown = client.get(f"/admin/adapters/adapterversion/{version.pk}/change/").content.decode()
    assert "calendar v1 is served with no system turn" in shown


def test_the_documented_cards_are_cards() -> None:
    whole, part = documented("The card")
    card = AdapterCard.parse(json.dumps(whole).encode(), "docs")
    validate_card(card)
    assert set(whole) == set(AdapterCard.model_fields)
    check_card("expert", part)
