"""The faults, one after the other, and what must hold meanwhile and afterwards."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.chaos.books import Books
from benchmarks.chaos.disk import Disk
from benchmarks.chaos.faults import FAULTS, broker
from benchmarks.chaos.hammer import Hammer
from benchmarks.chaos.installation import KINDS, LEASE, SLOTS
from benchmarks.chaos.processes import Processes
from benchmarks.chaos.web import Web

OPEN_RUNS = 3 * SLOTS
SETTLE_SECONDS = 300.0
FULL_SECONDS = 4.0
PARAMS = {"adapters": KINDS, "samples_per_class": 3, "split": (0, 0, 1)}


class Campaign:
    """A campaign against the installation below `data`."""

    def __init__(self, data: Path, disk: Disk, hammer: Hammer, token: str, seed: int) -> None:
        self.data, self.disk, self.hammer = data, disk, hammer
        self.chance = random.Random(seed)
        self.processes, self.books, self.web = Processes(self.chance), Books(), Web(token)
        self.faults: Counter[str] = Counter()
        self.recovery_s: list[float] = []
        self.answer_s = 0.0
        self._launches = 0
        self._full_until = 0.0

    def run(self, kills: int, seconds: float) -> dict[str, Any]:
        """Hurt it until there were so many kills or the time is over, let it settle; what was counted."""
        started = time.monotonic()
        self._begin()
        next_recovery = 30.0
        while self.kills < kills and time.monotonic() - started < seconds:
            self.tend()
            with suppress(Exception):  # it cannot even be looked at on a full disk
                if self.books.look() < OPEN_RUNS:
                    self.chance.choices([self.launch, self.launch_pair], [9, 1])[0]()
            self._fault()
            if time.monotonic() - started > next_recovery:
                self._recover(by_killing=len(self.recovery_s) % 2 == 0)
                next_recovery = time.monotonic() - started + 60
            time.sleep(self.chance.uniform(0, 0.6))
        self.hammer.stop()
        stuck = self.settle()
        for by_killing in (True, False):
            self._recover(by_killing)
        self.books.look()
        return self._result(stuck, round(time.monotonic() - started))

    def _begin(self) -> None:
        """Everything is up, and there is a run whose result others can take."""
        from workers.models import Run

        self.hammer.pause()
        self.wait_for(self.web.answers)
        first = self.launch(reuse=True)
        self.wait_for(lambda: Run.objects.get(pk=first).is_over)
        self.hammer.go_on()

    @property
    def kills(self) -> int:
        """By SIGKILL, so far."""
        return self.hammer.kills + self.processes.kills

    def tend(self) -> None:
        """Start what has died; free the disk when it has been full for long enough."""
        self.processes.keep_running()
        if self.disk.is_full and time.monotonic() > self._full_until:
            self.disk.free()

    def launch(self, *, reuse: bool = False) -> int | None:
        """Ask for a run; once it is answered it is acknowledged. Its id."""
        self._launches += 1
        name, seed = f"run-{self._launches:05d}", 0 if reuse else self._launches
        pk = self.web.launch(name, {**PARAMS, "seed": seed}, reuse=reuse)
        if pk is not None:
            self.books.acknowledged[name] = pk
        return pk

    def launch_pair(self) -> None:
        """Launch a pipeline of two runs; without an evaluation it fails in the end, in a sentence."""
        from workers.models import Pipeline
        from workers.services.pipelines import Plan, Step, launch_plan

        self._launches += 2
        seeds = {"-first": self._launches - 1, "-second": self._launches}
        steps = [Step("generate_dataset", suffix, {**PARAMS, "seed": seed}) for suffix, seed in seeds.items()]
        plan = Plan(Pipeline.Kind.ROUTER, f"pair-{self._launches:05d}", "pair", lambda name: steps)
        self.books.acknowledged |= {run.name: run.pk for run in launch_plan(plan, None).steps}

    def fill_disk(self) -> None:
        """Fill the disk for a while."""
        self.disk.fill()
        self._full_until = time.monotonic() + FULL_SECONDS

    def settle(self, seconds: float = SETTLE_SECONDS) -> int:
        """Leave everything alone until all runs are over; how many are not in the end."""
        deadline = time.monotonic() + seconds
        self.disk.free()
        while (open_runs := self.books.look()) and time.monotonic() < deadline:
            self.tend()
            time.sleep(0.5)
        return open_runs

    def _fault(self) -> None:
        name = self.chance.choices(list(FAULTS), [weight for weight, _ in FAULTS.values()])[0]
        self.faults[name] += 1
        with suppress(Exception):  # what it is meant for may be dead already
            FAULTS[name][1](self)

    def _recover(self, by_killing: bool) -> None:
        """Without a broker, a run is asked for; it comes back: how long until the worker, alone, takes the run on?

        The run needs no job: it takes the result of an equal one.
        """
        from workers.models import Run

        self.disk.free()
        self.hammer.pause()
        self.wait_for(lambda: self.web.answers() and _broker_answers())
        pid = self.processes.pid("broker")
        if by_killing:
            self.processes.kill(pid)
        else:
            self.processes.stop(pid, 600)
        asked = time.monotonic()
        probe = self.launch(reuse=True)
        self.answer_s = max(self.answer_s, time.monotonic() - asked)
        self.processes.go_on(pid)
        self.wait_for(_broker_answers)
        back = time.monotonic()
        self.wait_for(lambda: Run.objects.filter(pk=probe, status="succeeded").exists(), seconds=120)
        self.recovery_s.append(time.monotonic() - back)
        self.hammer.go_on()

    def wait_for(self, condition: Callable[[], object], seconds: float = 180) -> None:
        """Look after the processes until it holds, but not for longer than that."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            self.tend()
            time.sleep(0.1)

    def _result(self, stuck: int, seconds: int) -> dict[str, Any]:
        from workers.models import Run

        excess = self.books.excess_launches(self.data / "jobs")
        return {
            "kills": self.kills,
            "runs": Run.objects.count(),
            "excess_launches": len(excess),
            "excess": excess,
            "stuck": stuck,
            "changed_terminal": self.books.changed_terminal,
            "lost_writes": self.books.lost_writes(self.hammer.committed),
            "unexplained": self.books.unexplained(),
            "recovery_s_max": round(max(self.recovery_s), 1),
            "recoveries": len(self.recovery_s),
            "answer_s_max_without_broker": round(self.answer_s, 2),
            "outcomes": Counter(f"{what} {state[0]}" for (what, _), state in self.books.ended.items()),
            "refused": Counter(self.web.refused),
            "faults": {
                "kill reconciler at a line": self.hammer.kills - len(self.hammer.committed),
                "kill launch after its commit": len(self.hammer.committed),
                **self.faults,
            }
            | ({} if self.disk.is_own else {"fill disk": 0}),
            "lease_s": LEASE,
            "seconds": seconds,
        }


def _broker_answers() -> bool:
    try:
        return bool(broker().ping())
    except Exception:
        return False
