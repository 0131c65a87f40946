"""Alerts: recorded and logged at once; sent by e-mail and webhook from the outbox, until they are taken."""

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
from django.db.models import QuerySet
from django.utils import timezone

from datasets_app.room import explain
from workers.models import Alert, Notification
from workers.services.clock import is_to_come

log = logging.getLogger(__name__)

MAX_TRIES = 10
FIRST_WAIT = timedelta(seconds=15)  # doubled with every try: the last comes after some two hours
WEBHOOK_SECONDS = 5.0


class DeliveryFailed(Exception):  # noqa: N818 - it says what happened
    """The receiver did not take a notification; the message leaves out its address, a secret with many services."""


def notify(key: str, text: str, *, is_alert: bool = False, **details: Any) -> None:
    """Record what has happened, once for each `key`; call it in the transaction in which it happens."""
    log.log(logging.ERROR if is_alert else logging.INFO, text)
    level = Alert.Level.ALERT if is_alert else Alert.Level.INFO
    alert, _ = Alert.objects.get_or_create(key=key, defaults={"level": level, "text": text, "details": details})
    channels = {
        Notification.Channel.EMAIL: settings.NOTIFY["EMAILS"],
        Notification.Channel.WEBHOOK: settings.NOTIFY["WEBHOOK_URL"],
    }
    for channel, address in channels.items():
        if address:
            Notification.objects.get_or_create(alert=alert, channel=channel)
    transaction.on_commit(_hint, robust=True)


def mark_read(alerts: QuerySet[Alert]) -> int:
    """Take the alerts off the count of unread ones. How many were unread."""
    return alerts.filter(read_at=None).update(read_at=timezone.now())


def _hint() -> None:
    from workers.services.hints import hint

    hint()


def deliver_due() -> int:
    """Send what is due; each try is claimed first, so that several processes do not send the same. How many went."""
    return sum(_deliver(channel) for channel in Notification.Channel)


def _deliver(channel: Notification.Channel) -> int:
    """Send what is due on the channel, until it does not take one: to ask a silent one again costs each time."""
    now = timezone.now()
    unsent = Notification.objects.filter(channel=channel, sent_at__isnull=True, tries__lt=MAX_TRIES)
    due = unsent.exclude(is_to_come("due_at", FIRST_WAIT * 2**MAX_TRIES))
    sent = 0
    for notification in due.select_related("alert").order_by("id")[:20]:
        later = now + FIRST_WAIT * 2**notification.tries
        mine = Notification.objects.filter(pk=notification.pk, tries=notification.tries, sent_at__isnull=True)
        if not mine.update(tries=notification.tries + 1, due_at=later):
            continue
        try:
            SENDERS[channel](notification)
        except Exception as error:
            words = explain(error)[:500]
            log.warning("%s was not delivered: %s", notification, words)
            Notification.objects.filter(pk=notification.pk).update(error=words)
            if isinstance(error, SoftTimeLimitExceeded):
                raise
            break
        sent += Notification.objects.filter(pk=notification.pk).update(sent_at=timezone.now(), error="")
    return sent


def _send_email(notification: Notification) -> None:
    send_mail(f"[Switchyard] {notification.alert.subject}", notification.alert.text, None, settings.NOTIFY["EMAILS"])


def _send_webhook(notification: Notification) -> None:
    """POST the alert; the receiver checks the signature, and knows by the delivery id what it has had before."""
    alert = notification.alert
    payload = {**alert.details, "key": alert.key, "level": alert.level, "text": alert.text}
    body = json.dumps(payload, sort_keys=True).encode()
    at = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "X-Switchyard-Delivery": alert.key,
        "X-Switchyard-Signature": signature(settings.NOTIFY["WEBHOOK_SECRET"], body, at),
    }
    url = settings.NOTIFY["WEBHOOK_URL"]
    try:
        answer = httpx.post(url, content=body, headers=headers, timeout=WEBHOOK_SECONDS, trust_env=False)
    except httpx.InvalidURL:  # whose words quote it
        raise DeliveryFailed("SWITCHYARD_WEBHOOK_URL is no URL.") from None
    if not answer.is_success:
        raise DeliveryFailed(f"The webhook was answered with {answer.status_code}.")


def signature(secret: str, body: bytes, at: int) -> str:
    """`t=<seconds>,v1=<hex>`: HMAC-SHA256 over `<seconds>.<body>`, so that an old message cannot be sent again."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


SENDERS = {Notification.Channel.EMAIL: _send_email, Notification.Channel.WEBHOOK: _send_webhook}
