"""Who is served next, and when a thread counts as stalled."""

from __future__ import annotations

import threading
import time

import pytest

from inference.engines.in_process.jobs import Deployment, Job
from inference.engines.in_process.turns import FairThreads
from inference.engines.in_process.waiting import Waiting
from inference.engines.in_process.watch import Watch
from inference.engines.work import TOKENS_A_REQUEST

STACK = Deployment("a", None, {})


def job(client: str, tokens: int = 1, **fields: object) -> Job:
    return Job(STACK, 0.0, client, prompt=[0] * tokens, **fields)  # type: ignore[arg-type]


def clients(jobs: list[Job]) -> str:
    return "".join(job.client for job in jobs)


def test_a_client_who_comes_last_is_next() -> None:
    waiting = Waiting()
    for client in "aaaaaab":
        waiting.put(job(client))
    assert clients(waiting.take(4, 4)) == "abaa"


def test_turns_are_of_equal_work() -> None:
    waiting = Waiting()
    for _ in range(3):
        waiting.put(job("a", 10))
    for _ in range(12):
        waiting.put(job("b", 2))
    assert clients(waiting.take(10, 10)) == "abbbbbabbb"


def test_who_comes_back_is_owed_nothing_and_who_splits_work_gains_nothing() -> None:
    waiting = Waiting()
    waiting.put(job("a"))
    assert clients(waiting.take(1, 1)) == "a"
    for _ in range(50):
        waiting.put(job("b"))
        waiting.take(1, 1)
    for client in "abab":
        waiting.put(job(client))
    assert sorted(clients(waiting.take(2, 2))) == ["a", "b"]
    waiting.take(9, 9)
    waiting.put(job("c", 100))
    waiting.take(1, 1)
    waiting.put(job("c", 100))
    waiting.put(job("d"))
    assert clients(waiting.take(2, 2)) == "dc"


def test_long_prompts_join_one_at_a_time_and_short_ones_beside_them() -> None:
    waiting = Waiting()
    for _ in range(3):
        waiting.put(job("a", 100))
    waiting.put(job("b", 5))
    assert clients(waiting.take(4, 4, 50)) == "a"
    assert clients(waiting.take(4, 4, 50)) == "b"
    assert clients(waiting.take(4, 4, 50)) == "a"
    waiting.put(job("b", 5))
    waiting.put(job("b", 5))
    assert clients(waiting.take(4, 4, 110)) == "bb" + "a"


def test_threads_take_the_calls_of_clients_in_turns() -> None:
    threads, release, done = FairThreads(1, "test"), threading.Event(), []
    threads.submit("a", 1, release.wait)
    for number in range(3):
        threads.submit("a", 1, lambda number=number: done.append(f"a{number}"))
    threads.submit("b", 1, lambda: done.append("b"))
    release.set()
    threads.shutdown()
    assert done.index("b") <= 1 and [name for name in done if name != "b"] == ["a0", "a1", "a2"]
    with pytest.raises(RuntimeError):
        threads.submit("a", 1, release.wait)


def test_a_step_is_stalled_after_its_time_and_a_long_prompt_has_more() -> None:
    watch = Watch(0.05)
    assert not watch.is_stalled
    with watch.step():
        assert not watch.is_stalled
        time.sleep(0.1)
        assert watch.is_stalled
    assert not watch.is_stalled
    with watch.step(100 * TOKENS_A_REQUEST):
        time.sleep(0.1)
        assert not watch.is_stalled
