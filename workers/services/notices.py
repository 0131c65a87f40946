"""Telling people: in the log at once; by e-mail and webhook from the outbox, until it is taken."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from datetime import timedelta
from typing import Any

import httpx
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone

from datasets_app.room import explain
from workers.models import Notice
from workers.services.clock import is_to_come

log = logging.getLogger(__name__)

MAX_TRIES = 10
FIRST_WAIT = timedelta(seconds=15)  # doubled with every try: the last comes after some two hours
WEBHOOK_SECONDS = 5.0


class NotTaken(Exception):  # noqa: N818 - it says how the notice stands
    """The receiver did not take a notice; the words do not tell its address, which is a secret with many services."""


def tell(key: str, text: str, *, is_alert: bool = False, **facts: Any) -> None:
    """Say what has happened, once for each `key`; call it in the transaction in which it happens."""
    log.log(logging.ERROR if is_alert else logging.INFO, text)
    payload = {"key": key, "level": "alert" if is_alert else "info", "text": text, **facts}
    channels = {Notice.Channel.EMAIL: settings.NOTIFY["EMAILS"], Notice.Channel.WEBHOOK: settings.NOTIFY["WEBHOOK_URL"]}
    for channel, address in channels.items():
        if address:
            subject = text.splitlines()[0][:200]
            Notice.objects.get_or_create(key=key, channel=channel, defaults={"subject": subject, "payload": payload})
    transaction.on_commit(_hint, robust=True)


def _hint() -> None:
    from workers.services.hints import hint

    hint()


def deliver_due() -> int:
    """Send what is due; each try is claimed first, so that several processes do not send the same. How many went."""
    return sum(_deliver(channel) for channel in Notice.Channel)


def _deliver(channel: Notice.Channel) -> int:
    """Send what is due on the channel, until it does not take one: to ask a silent one again costs each time."""
    now = timezone.now()
    unsent = Notice.objects.filter(channel=channel, sent_at__isnull=True, tries__lt=MAX_TRIES)
    due = unsent.exclude(is_to_come("due_at", FIRST_WAIT * 2**MAX_TRIES))
    sent = 0
    for notice in due.order_by("id")[:20]:
        later = now + FIRST_WAIT * 2**notice.tries
        mine = Notice.objects.filter(pk=notice.pk, tries=notice.tries, sent_at__isnull=True)
        if not mine.update(tries=notice.tries + 1, due_at=later):
            continue
        try:
            SENDERS[channel](notice)
        except Exception as error:
            words = explain(error)[:500]
            log.warning("%s was not delivered: %s", notice, words)
            Notice.objects.filter(pk=notice.pk).update(error=words)
            if isinstance(error, SoftTimeLimitExceeded):
                raise
            break
        sent += Notice.objects.filter(pk=notice.pk).update(sent_at=timezone.now(), error="")
    return sent


def _send_email(notice: Notice) -> None:
    send_mail(f"[Switchyard] {notice.subject}", notice.payload["text"], None, settings.NOTIFY["EMAILS"])


def _send_webhook(notice: Notice) -> None:
    """POST the payload; the receiver checks the signature, and knows by the delivery id what it has had before."""
    body = json.dumps(notice.payload, sort_keys=True).encode()
    at = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "X-Switchyard-Delivery": notice.payload["key"],
        "X-Switchyard-Signature": signature(settings.NOTIFY["WEBHOOK_SECRET"], body, at),
    }
    url = settings.NOTIFY["WEBHOOK_URL"]
    try:
        answer = httpx.post(url, content=body, headers=headers, timeout=WEBHOOK_SECONDS, trust_env=False)
    except httpx.InvalidURL:  # whose words quote it
        raise NotTaken("SWITCHYARD_WEBHOOK_URL is no URL.") from None
    if not answer.is_success:
        raise NotTaken(f"The webhook was answered with {answer.status_code}.")


def signature(secret: str, body: bytes, at: int) -> str:
    """`t=<seconds>,v1=<hex>`: HMAC-SHA256 over `<seconds>.<body>`, so that an old message cannot be sent again."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


SENDERS = {Notice.Channel.EMAIL: _send_email, Notice.Channel.WEBHOOK: _send_webhook}
