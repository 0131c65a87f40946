"""People are told: signed, again until somebody takes it, and once."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.utils import timezone

from workers.models import Alert, Notification
from workers.services import deliver_due, mark_read, notifications
from workers.services.notifications import MAX_TRIES, notify

SECRET = "a secret of some length"

pytestmark = pytest.mark.django_db


class Receiver(HTTPServer):
    """Takes webhooks, after it has refused as many as `refusing`."""

    taken: list[tuple[dict[str, str], bytes]]
    refusing = 0
    answer = 204


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((dict(self.headers), body))
        self.server.refusing -= 1
        if not self.server.answer:
            return  # and cuts the connection
        self.send_response(503 if self.server.refusing >= 0 else self.server.answer)
        self.send_header("Location", self.path)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    server = Receiver(("127.0.0.1", 0), Handler)
    server.taken = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/hook"
    settings.NOTIFY = {"EMAILS": ["op@example.org"], "WEBHOOK_URL": url, "WEBHOOK_SECRET": SECRET}
    yield server
    server.shutdown()
    server.server_close()


def test_a_webhook_is_signed_and_an_e_mail_sent(receiver: Receiver, mailoutbox: list[Any]) -> None:
    notify("fell", "It fell.", is_alert=True, accuracy=0.5)
    assert deliver_due() == 2
    (headers, body), *_ = receiver.taken
    assert json.loads(body) == {"key": "fell", "level": "alert", "text": "It fell.", "accuracy": 0.5}
    at, signature = (part.partition("=")[2] for part in headers["X-Switchyard-Signature"].split(","))
    assert signature == hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["X-Switchyard-Delivery"] == "fell"
    assert [(mail.to, mail.subject) for mail in mailoutbox] == [(["op@example.org"], "[Switchyard] It fell.")]
    assert deliver_due() == 0


def test_what_is_told_twice_is_sent_once(receiver: Receiver) -> None:
    notify("same", "Once.")
    notify("same", "Once.")
    deliver_due()
    assert len(receiver.taken) == 1


def test_what_is_refused_is_sent_again_and_in_the_end_given_up(receiver: Receiver) -> None:
    receiver.refusing = 2
    notify("again", "Listen.")
    waits = []
    for _ in range(3):
        deliver_due()
        notification = Notification.objects.get(channel="webhook")
        waits.append(notification.due_at - timezone.now())
        Notification.objects.update(due_at=timezone.now())
    assert waits[0] < waits[1]
    assert notification.sent_at is not None
    assert len(receiver.taken) == 3

    receiver.refusing = 10**6
    notify("never", "Nobody listens.")
    for _ in range(MAX_TRIES + 2):
        deliver_due()
        Notification.objects.update(due_at=timezone.now())
    assert len(receiver.taken) == 3 + MAX_TRIES
    assert "503" in Notification.objects.get(alert__key="never", channel="webhook").error


SLACK = "/services/T00/B00/XYZZY?sig=PLUGH"


@pytest.mark.parametrize("answer", ["204", "404", "302", "none", "nobody", "no port"])
def test_the_webhooks_address_is_written_down_nowhere_as_it_is_a_secret(
    receiver: Receiver, settings: Any, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    port = {"nobody": "1", "no port": "XYZZY"}.get(answer, receiver.server_port)
    settings.NOTIFY |= {"EMAILS": [], "WEBHOOK_URL": f"http://127.0.0.1:{port}{SLACK}"}
    receiver.answer = int(answer) if answer.isdigit() else 0
    caplog.set_level(logging.DEBUG)
    notify("fell", "It fell.")
    assert deliver_due() == (answer == "204")
    error = Notification.objects.get().error
    told = {
        "204": "",
        "404": "answered with 404",
        "302": "answered with 302",
        "none": "disconnected",
        "nobody": "refused",
    }
    assert told.get(answer, "no URL") in error
    for secret in ("XYZZY", "PLUGH"):
        assert secret not in error + caplog.text


def test_a_channel_that_takes_nothing_is_asked_once_a_round_and_holds_no_other_up(
    receiver: Receiver, mailoutbox: list[Any]
) -> None:
    receiver.refusing = 10**6
    for number in range(12):
        notify(f"n{number}", "Listen.")
    deliver_due()
    assert (len(receiver.taken), len(mailoutbox)) == (1, 12)
    deliver_due()
    assert len(receiver.taken) == 2


def test_the_end_of_the_tasks_time_ends_the_round(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Notification] = []

    def send(notification: Notification) -> None:
        asked.append(notification)
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(notifications, "SENDERS", dict.fromkeys(Notification.Channel, send))
    for number in range(3):
        notify(f"n{number}", "Listen.")
    with pytest.raises(SoftTimeLimitExceeded):
        deliver_due()
    assert len(asked) == 1


def test_without_any_channel_an_alert_is_a_row_all_the_same(settings: Any) -> None:
    settings.NOTIFY = {"EMAILS": [], "WEBHOOK_URL": "", "WEBHOOK_SECRET": ""}
    notify("fell", "It fell.\nFar.", is_alert=True, accuracy=0.5)
    notify("fell", "It fell.")
    alert = Alert.objects.get()
    assert (alert.level, alert.subject, alert.details) == ("alert", "It fell.", {"accuracy": 0.5})
    assert not Notification.objects.exists()


def test_an_alert_is_read_once() -> None:
    notify("fell", "It fell.")
    assert (mark_read(Alert.objects.all()), mark_read(Alert.objects.all())) == (1, 0)
    assert Alert.objects.get().read_at is not None
