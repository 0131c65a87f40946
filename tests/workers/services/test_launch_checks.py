"""What is known at the launch is refused there, by the name of the field, and nothing is queued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from adapters.services import register_adapter
from datasets_app.errors import InputError
from datasets_app.models import SourceDataset
from datasets_app.services import register_source
from tests.cast import EXPERTS, make_champion, make_client, make_experts, make_routing_dataset, make_source
from workers.models import Pipeline, Run
from workers.services import (
    add_expert,
    launch,
    launch_expert_pipeline,
    launch_router_pipeline,
    reevaluate,
    retrain_router,
)

pytestmark = pytest.mark.django_db

TRAIN = [
    ({"output_dir": "x"}, "training has no field 'output_dir'"),
    ({"steps": 3}, "training has no field 'steps'"),
    ({"epochs": -1}, "training has no field 'epochs'"),
    ({"learning_rate": "x"}, "learning_rate: "),
    ({"learning_rate": -1}, "learning_rate: "),
    ({"rank": 0}, "rank: "),
    ({"rank": 2.5}, "rank: "),
    ({"max_steps": True}, "max_steps: "),
    ({"batch_size": 16, "micro_batch_size": 5}, "micro_batch_size must divide batch_size"),
    ({"data": "/etc"}, "come from the platform's settings"),
]


def nothing_is_queued() -> bool:
    return not Run.objects.exists() and not Pipeline.objects.exists()


@pytest.mark.parametrize(("train", "words"), TRAIN)
def test_fields_that_training_would_refuse(train: dict[str, Any], words: str, samples: dict[str, Path]) -> None:
    make_champion()
    make_routing_dataset()
    source = samples["provider-select"]
    wishes: dict[str, Any] = {
        "train": [
            lambda: launch_router_pipeline(adapters=EXPERTS, train=train),
            lambda: launch_expert_pipeline("calendar", train=train),
            lambda: retrain_router(train=train),
            lambda: add_expert("provider-select", source=source, train=train),
        ],
        "train_expert": [lambda: add_expert("provider-select", source=source, train_expert=train)],
        "config": [lambda: launch("train", {"dataset": "routing_20260101_120000", "config": train})],
    }
    for field, calls in wishes.items():
        for call in calls:
            with pytest.raises(InputError) as refused:
                call()
            assert str(refused.value).startswith(field), str(refused.value)
            assert words in str(refused.value)
    assert nothing_is_queued()


def test_command_api_and_admin_say_the_same_of_them(client: Client) -> None:
    make_experts()
    train = {"steps": 3}
    answer = make_client(staff=True).post("/api/v1/pipelines/", {"adapters": EXPERTS, "train": train}, format="json")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("train: training has no field 'steps'")
    with pytest.raises(Exception, match="train: training has no field 'steps'"):
        call_command("retrain_router", "--train", json.dumps(train), "--adapters", *EXPERTS)
    client.force_login(User.objects.create_superuser("root"))
    form = {"kind": "router", "adapters": EXPERTS, "train": json.dumps(train)}
    page = client.post("/admin/workers/pipeline/add/", form, follow=True)
    assert "Training has no field" in page.content.decode()
    assert nothing_is_queued()


def test_a_router_of_one_class() -> None:
    make_champion()
    for call in (
        lambda: launch_router_pipeline(adapters=["calendar"]),
        lambda: retrain_router(adapters=["calendar"], drop=["claim-window"]),
        lambda: launch("generate_dataset", {"adapters": ["calendar"]}),
    ):
        with pytest.raises(InputError, match=r"^adapters: a router needs two classes"):
            call()
    assert nothing_is_queued()


def test_two_classes_of_one_source() -> None:
    make_experts()
    wish = {"adapters": EXPERTS, "sources": {"claim-window": "calendar"}}
    with pytest.raises(InputError, match=r"^sources: 'claim-window' and 'calendar' have the same screens"):
        launch("generate_dataset", wish)
    with pytest.raises(InputError, match=r"^sources: 'none' and 'calendar' have the same screens"):
        launch("generate_dataset", {"adapters": EXPERTS, "negatives": ["calendar"]})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"split": (0.5, 0.5, 0.5)}, "split: "),
        ({"human": "no picture"}, "human must hold <image> exactly once"),
        ({"system": "<image>"}, "system must not"),
        ({"samples_per_class": 2}, "samples_per_class is less than one sample for each split"),
    ],
)
def test_what_the_recipe_would_refuse(wrong: dict[str, Any], words: str) -> None:
    make_experts()
    with pytest.raises(InputError, match=words):
        launch("generate_dataset", {"adapters": EXPERTS, **wrong})


def test_a_source_with_too_few_different_screens(samples: dict[str, Path], tmp_path: Path) -> None:
    """Also one that is only registered with its expert, before that is trained."""
    make_champion()
    found = register_source("provider-select", samples["provider-select"])
    assert found.screens is not None
    assert found.screens <= found.rows
    asked = found.screens + 1
    words = f"^samples_per_class: class 'provider-select' has {found.screens} different screens, {asked} are needed"
    found.delete()
    with pytest.raises(InputError, match=words):
        add_expert("provider-select", source=samples["provider-select"], samples_per_class=asked)
    assert not SourceDataset.objects.filter(name="provider-select").exists()
    register_adapter("provider-select", source=register_source("provider-select", samples["provider-select"]))
    with pytest.raises(InputError, match=words):
        launch_router_pipeline(adapters=["calendar", "provider-select"], samples_per_class=asked)
    assert nothing_is_queued()
    assert launch_router_pipeline(adapters=["calendar", "provider-select"]).steps


def test_fresh_samples_that_the_sources_do_not_have() -> None:
    make_champion()
    SourceDataset.objects.update(screens=30)
    with pytest.raises(InputError, match=r"^fresh_samples: class 'calendar' has 30 different screens, 31 are needed"):
        reevaluate(fresh_samples=31)
    assert nothing_is_queued()


URLS = [
    "http://example.com/a",
    "https://example.com/a",
    "file:///data/a",
    "FILE:/data/a",
    "s3://bucket/a",
    "git+ssh://a/b",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_no_place(url: str, samples: dict[str, Path]) -> None:
    make_champion()
    with pytest.raises(InputError, match=r"^source: .* is a URL: name a folder on the server, or volume:path"):
        add_expert("new", source=url)
    with pytest.raises(InputError, match=r"^adapter: .* is a URL"):
        add_expert("new", source=samples["provider-select"], adapter=url)
    with pytest.raises(InputError, match=r"^place: .* is a URL"):
        launch("fetch", {"what": "source", "name": "new", "place": url})
    with pytest.raises(InputError, match="is a URL"):
        register_source("new", url)
    body = {"kind": "add_expert", "name": "new", "source": url}
    assert make_client(staff=True).post("/api/v1/pipelines/", body, format="json").status_code == 400
    assert nothing_is_queued()


@pytest.mark.usefixtures("no_modal_token")
def test_a_volume_where_there_is_no_account(samples: dict[str, Path]) -> None:
    """And a backend."""
    make_champion()
    with pytest.raises(InputError, match=r"^source: 'volume:path' lies on a volume. There is no account of Modal"):
        add_expert("new", source="volume:path")
    with pytest.raises(InputError, match=r"^adapter: 'volume:path' lies on a volume. There is no account of Modal"):
        add_expert("new", source=samples["provider-select"], adapter="volume:path")
    with pytest.raises(InputError, match=r"^place: 'volume:path' lies on a volume. There is no account of Modal"):
        launch("fetch", {"what": "source", "name": "new", "place": "volume:path"})
    make_source("other")
    with pytest.raises(InputError, match=r"^backend: There is no account of Modal's here: run `modal token new`"):
        launch("preprocess", {"dataset": "other"}, backend="modal")
    assert nothing_is_queued()
