"""Liveness and readiness, for a load balancer."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from functools import partial

import httpx
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe
from redis import Redis

from workers.services.heartbeats import is_alive

PATIENCE = 2.0  # seconds for all checks together

ENGINE_STATES = ("loading", "stalled", "failed")

_pool = ThreadPoolExecutor(max_workers=10, thread_name_prefix="ready")


@login_not_required
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """This process answers; it says nothing of the others, so that their end does not end this one."""
    return JsonResponse({"status": "ok"})


@login_not_required
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Database, broker, worker, beat and engine, each by itself; 503 unless all of them are there.

    An engine that answers says why it is not ready: it is `loading`, or `stalled` in a step of its model.
    """
    running = {name: _pool.submit(_quietly, check) for name, check in CHECKS.items()}
    deadline = time.monotonic() + PATIENCE
    states = {}
    for name, future in running.items():
        try:
            states[name] = future.result(max(0.0, deadline - time.monotonic()))
        except TooSlow:
            states[name] = "failing"
    is_ready = set(states.values()) == {"ok"}
    return JsonResponse({"status": "ok" if is_ready else "failing", **states}, status=200 if is_ready else 503)


class NotReady(Exception):  # noqa: N818
    """Why, in one word."""


def _quietly(check: Callable[[], bool]) -> str:
    try:
        return "ok" if check() else "failing"
    except NotReady as error:
        return str(error)
    except Exception:
        return "failing"
    finally:
        connection.close()


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return bool(cursor.fetchone() == (1,))


def _broker() -> bool:
    url = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://")
    with Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1) as broker:
        return bool(broker.ping())


def _engine() -> bool:
    url = settings.ENGINE["OPTIONS"].get("url")
    if url is None:
        return True
    answer = httpx.get(f"{url}/health", timeout=1.5, trust_env=False)
    if answer.status_code == httpx.codes.OK:
        return True
    state = answer.json()["status"]
    if state in ENGINE_STATES:
        raise NotReady(state)
    return False


CHECKS: dict[str, Callable[[], bool]] = {
    "database": _database,
    "broker": _broker,
    "worker": partial(is_alive, "worker"),
    "beat": partial(is_alive, "beat"),
    "engine": _engine,
}
