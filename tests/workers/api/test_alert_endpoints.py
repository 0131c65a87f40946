"""The list of alerts, and what is read of it."""

from __future__ import annotations

import pytest

from tests.cast import make_client
from workers.models import Alert
from workers.services.notifications import notify

pytestmark = pytest.mark.django_db

LIST = "/api/v1/alerts/"


@pytest.fixture(autouse=True)
def alerts() -> None:
    notify("fell", "It fell.", is_alert=True, accuracy=0.5)
    notify("ended", "It ended.")


def test_everybody_reads_alerts_newest_first() -> None:
    rows = make_client().get(LIST).json()["results"]
    assert [row["text"] for row in rows] == ["It ended.", "It fell."]
    assert rows[1]["level"] == "alert"
    assert rows[1]["details"] == {"accuracy": 0.5}


def test_staff_marks_one_as_read() -> None:
    client, alert = make_client(staff=True), Alert.objects.get(key="fell")
    for _ in range(2):
        assert client.post(f"{LIST}{alert.pk}/read/").json()["read_at"] is not None

    def listed(query: str) -> list[str]:
        return [row["text"] for row in client.get(f"{LIST}?{query}").json()["results"]]

    assert (listed("read=true"), listed("read=false")) == (["It fell."], ["It ended."])
    assert listed("level=alert&read=false") == []
    assert client.post(f"{LIST}999/read/").status_code == 404


def test_others_mark_nothing_as_read() -> None:
    alert = Alert.objects.get(key="fell")
    assert make_client().post(f"{LIST}{alert.pk}/read/").status_code == 403


@pytest.mark.parametrize("query", ["read=maybe", "level=panic"])
def test_a_filter_that_makes_no_sense_is_refused(query: str) -> None:
    assert make_client().get(f"{LIST}?{query}").status_code == 400
