"""The queue before the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from datasets_app.errors import InputError
from inference.engines.base import EngineBusy, EngineError
from inference.engines.in_process.owner import Owner, wait


@pytest.fixture
def owner() -> Iterator[Owner]:
    made = Owner(capacity=2)
    yield made
    made.close()


@pytest.fixture
def held(owner: Owner) -> Iterator[threading.Event]:
    """The owner works until the event is set."""
    started, release = threading.Event(), threading.Event()

    def hold(_: float) -> None:
        started.set()
        release.wait(10)

    owner.submit(hold)
    started.wait(10)
    yield release
    release.set()


def test_work_runs_in_order_on_one_thread(owner: Owner, held: threading.Event) -> None:
    ran: list[tuple[int, str]] = []
    futures = [owner.submit(lambda _, i=i: ran.append((i, threading.current_thread().name))) for i in range(2)]  # type: ignore[misc]
    held.set()
    for future in futures:
        future.result(10)
    assert ran == [(0, "model-owner"), (1, "model-owner")]


def test_a_full_queue_is_busy_and_frees_its_places(owner: Owner, held: threading.Event) -> None:
    futures = [owner.submit(lambda _: 1) for _ in range(2)]
    assert owner.waiting == 2
    with pytest.raises(EngineBusy, match="full"):
        owner.submit(lambda _: 1)
    held.set()
    assert [future.result(10) for future in futures] == [1, 1]
    assert owner.submit(lambda _: 2).result(10) == 2


def test_cancelled_work_is_never_run(owner: Owner, held: threading.Event) -> None:
    ran: list[int] = []
    future = owner.submit(lambda _: ran.append(1))
    assert future.cancel()
    held.set()
    owner.submit(lambda _: None).result(10)
    assert ran == []


def test_a_late_turn_is_busy_but_begun_work_is_waited_for(owner: Owner, held: threading.Event) -> None:
    with pytest.raises(EngineBusy, match="waited"):
        wait(owner.submit(lambda _: 1), 0.05)
    held.set()

    def slow(_: float) -> int:
        time.sleep(0.2)
        return 3

    assert wait(owner.submit(slow), 0.1) == 3


def test_the_time_in_the_queue_is_told(owner: Owner, held: threading.Event) -> None:
    future = owner.submit(lambda queued: queued)
    time.sleep(0.05)
    held.set()
    assert 50 <= future.result(10) < 5000


def test_failures_reach_the_caller_and_the_owner_goes_on(owner: Owner) -> None:
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(InputError, match="yours"):
        owner.submit(lambda _: fail(InputError("yours"))).result(10)
    with pytest.raises(EngineError, match="model step failed: ZeroDivisionError") as failed:
        owner.submit(lambda _: fail(ZeroDivisionError("/secret/path"))).result(10)
    assert "secret" not in str(failed.value)
    assert owner.submit(lambda _: 1).result(10) == 1


def test_closing_cancels_what_waits() -> None:
    owner = Owner(capacity=2)
    release = threading.Event()
    running = owner.submit(lambda _: release.wait(10))
    waiting = owner.submit(lambda _: 1)
    closing = threading.Thread(target=owner.close)
    while not running.running():
        time.sleep(0.01)
    closing.start()
    time.sleep(0.05)
    release.set()
    closing.join(10)
    assert running.result() is True
    assert waiting.cancelled()
    with pytest.raises(EngineError, match="closed"):
        owner.submit(lambda _: 1)
