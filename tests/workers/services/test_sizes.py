"""What is said of the data before anything is trained on it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from adapters.models import Adapter
from datasets_app.models import SourceDataset
from tests.cast import EXPERTS, make_client, make_experts
from workers.management.following import FollowCommand
from workers.models import Pipeline
from workers.services import launch_router_pipeline, sizes_of, source_sizes

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def experts() -> None:
    """`calendar` has screens enough, `claim-window` has not."""
    make_experts()
    for name, screens in zip(EXPERTS, (600, 50), strict=True):
        SourceDataset.objects.filter(name=name).update(screens=screens)


ENOUGH = "calendar: 120 of 600 different screens are held out, which can show a margin of 2.5 points"
FEW = "claim-window: 20 of 50 different screens are held out, which can show a margin of 13.9 points; 5 points take 59"


def test_each_class_is_told_with_the_margin_that_it_can_show() -> None:
    pipeline = launch_router_pipeline(adapters=EXPERTS)
    assert [str(size) for size in sizes_of(pipeline)] == [ENOUGH, FEW]
    assert [str(size) for size in source_sizes(SourceDataset.objects.all())] == [ENOUGH, FEW]


def test_fewer_samples_show_less() -> None:
    pipeline = launch_router_pipeline(adapters=EXPERTS, samples_per_class=25)
    assert [size.held_out for size in sizes_of(pipeline)] == [10, 10]


def test_screens_that_nobody_has_counted_are_told_so() -> None:
    SourceDataset.objects.update(screens=None)
    pipeline = launch_router_pipeline(adapters=EXPERTS)
    assert str(sizes_of(pipeline)[0]) == "calendar: its different screens are counted when they are drawn"


def test_the_api_says_it_at_the_launch_and_later() -> None:
    client = make_client(staff=True)
    launched = client.post("/api/v1/pipelines/", {"adapters": EXPERTS}, format="json").json()
    first = {"label": "calendar", "screens": 600, "held_out": 120, "margin": pytest.approx(0.0247, abs=1e-4)}
    assert launched["classes"][0] == first
    assert client.get(f"/api/v1/pipelines/{launched['id']}/").json()["classes"] == launched["classes"]
    assert client.get("/api/v1/sources/").json()["results"][0]["screens"] == 600
    Adapter.objects.update(source=None)
    assert client.get(f"/api/v1/pipelines/{launched['id']}/").json()["classes"] == []


def test_the_form_says_it_before_and_after(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    assert ENOUGH in client.get("/admin/workers/pipeline/add/").content.decode()
    page = client.post("/admin/workers/pipeline/add/", {"kind": "router", "adapters": EXPERTS}, follow=True)
    assert f"{FEW}." in [str(message) for message in page.context["messages"]]
    assert Pipeline.objects.exists()


def test_commands_say_it_before_they_wait(capsys: pytest.CaptureFixture[str]) -> None:
    FollowCommand().follow_pipeline(launch_router_pipeline(adapters=EXPERTS), detach=True)
    assert f"{ENOUGH}." in capsys.readouterr().err
