"""`python -m benchmarks.chaos [--kills 1000]`: a campaign of faults against real processes, and what must hold.

Broker, worker, two beats and local jobs of `generate_dataset` really run, on SQLite in a folder of its own. Beside them
a hammer forks reconcilers and kills each at a random line of the platform's own code, so that every step of a launch
and of a finalisation is hit. Meanwhile worker (main and pool), beat, broker and jobs are killed, the broker is
flushed and its connections cut, a pool process stands still past its lease, messages come fifty times, runs are
launched and cancelled. Then everything is left alone, and every run must come to its end.

The lease is 3 s instead of the product's 50, so that a kill does not hold a run up for the length of the campaign.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/chaos.json"
OWN_CODE = tuple(str(ROOT / part) for part in ("workers/services", "workers/compute", "workers/kinds", "datasets_app"))
KINDS = ("calendar", "claim-window")
LEASE, SLOTS = 3.0, 2
LINES = 900  # of our own code that a round runs through, roughly
SETTLE_SECONDS = 300.0
HAMMERED = 2  # reconcilers at once


def set_up(data: Path) -> None:
    """A fresh installation below `data`, with two experts and an equal run to reuse."""
    os.environ.update(
        SWITCHYARD_DATA=str(data),
        SWITCHYARD_LEASE_SECONDS=str(LEASE),
        SWITCHYARD_LOCAL_SLOTS=str(SLOTS),
        SWITCHYARD_LOG_LEVEL="CRITICAL",
        DJANGO_SETTINGS_MODULE="controlplane.settings",
        OMP_NUM_THREADS="1",
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    import django

    django.setup()
    from django.core.management import call_command

    from adapters.services import register_adapter
    from datasets_app.samples.source import write_source
    from datasets_app.services import register_source

    call_command("migrate", verbosity=0)
    for kind in KINDS:
        register_adapter(kind, source=register_source(kind, write_source(kind, data / "sources" / kind, 6, seed=1)))


def hammer(kills: int, folder: Path, seed: int) -> None:
    """Fork reconcilers, each to be killed at a random line, until `kills` were; `folder` holds count and pause."""
    chance = random.Random(seed)
    done, children = 0, set[int]()
    while (done < kills and not (folder / "stop").exists()) or children:
        while len(children) < HAMMERED and done < kills and not any((folder / x).exists() for x in ("pause", "stop")):
            line = int(LINES ** chance.random()) if chance.random() < 0.3 else chance.randint(1, LINES)
            child = os.fork()
            if child == 0:
                reconcile_until(line)
            children.add(child)
        for child in list(children):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                children.discard(pid)
                done += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
                (folder / "kills").write_text(str(done))
        time.sleep(0.02)


def reconcile_until(line: int) -> None:
    """A round of the reconciler that is killed, for real, at the given line of our own code."""
    from workers.services import advance_all

    left = line

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(OWN_CODE):
            return None
        if event == "line":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        advance_all()
    finally:
        os._exit(0)


class Campaign:
    """The faults, and the books on them."""

    def __init__(self, data: Path, seed: int) -> None:
        from controlplane.supervisor import Process, read_procfile

        self.data, self.chance = data, random.Random(seed)
        self.kills = 0
        self.faults: Counter[str] = Counter()
        self.job_kills: Counter[int] = Counter()
        self.launched: dict[str, int] = {}
        self.ended: dict[int, tuple[Any, ...]] = {}
        self.changed_terminal = 0
        self.recovery_s = [0.0]
        self.stopped: dict[int, float] = {}
        self.processes = {process.name: process for process in read_procfile(["broker", "worker", "beat"])}
        self.processes["beat-2"] = Process("beat-2", self.processes["beat"].command)

    def keep_running(self) -> None:
        """Start what has died, at once; let go on what stood still for long enough."""
        for process in self.processes.values():
            process.failures = -1
            process.look_after()
        for pid, since in list(self.stopped.items()):
            if time.monotonic() - since > 2 * LEASE:
                self._signal(pid, signal.SIGCONT)
                del self.stopped[pid]

    def launch(self) -> None:
        """A run; once this returns it is acknowledged."""
        from workers.services import launch

        params = {"adapters": KINDS, "samples_per_class": 3, "split": (0, 0, 1), "seed": len(self.launched)}
        name = f"run-{len(self.launched):05d}"
        self.launched[name] = launch("generate_dataset", params, name=name).pk

    def fault(self) -> None:
        """One of all kinds."""
        name = self.chance.choices(list(FAULTS), [weight for weight, _ in FAULTS.values()])[0]
        self.faults[name] += 1
        with suppress(Exception):  # what it is meant for may be dead already
            FAULTS[name][1](self)

    def watch(self) -> int:
        """Look at every run; how many are not over."""
        from workers.models import Run

        open_runs = 0
        for pk, *state in Run.objects.values_list("pk", "status", "version", "finished_at", "error"):
            if state[0] not in ("succeeded", "failed", "cancelled"):
                open_runs += 1
                self.changed_terminal += pk in self.ended
            elif self.ended.setdefault(pk, tuple(state)) != tuple(state):
                self.changed_terminal += 1
                self.ended[pk] = tuple(state)
        return open_runs

    def excess_launches(self) -> int:
        """Jobs that did work though nothing called for them: a run may have one, and one for each that was killed."""
        from workers.models import Attempt, Run

        keys = set(Attempt.objects.values_list("launch_key", flat=True))
        claimed = {claim.parent.name for claim in (self.data / "jobs").glob("*/claim")}
        excess = len(claimed - keys)
        for run in Run.objects.prefetch_related("attempts"):
            worked = sum(attempt.launch_key in claimed for attempt in run.attempts.all())
            excess += max(0, worked - 1 - self.job_kills[run.pk])
        return excess

    def lost_writes(self) -> int:
        """Acknowledged runs that are not there, or not as they were acknowledged."""
        from workers.models import Run

        found = dict(Run.objects.values_list("name", "pk"))
        return sum(found.get(name) != pk for name, pk in self.launched.items())

    def recover(self, folder: Path) -> None:
        """The broker goes and comes back; how long until the worker, alone, takes a run on that needs no job."""
        from workers.models import Run
        from workers.services import launch

        done = Run.objects.filter(status="succeeded", reused_from=None).first()
        if done is None:
            return
        (folder / "pause").touch()
        kill_broker(self)
        time.sleep(1)
        while not self._broker_answers():
            self.keep_running()
            time.sleep(0.1)
        started = time.monotonic()
        name = f"probe-{len(self.recovery_s):04d}"
        probe = launch("generate_dataset", done.params, name=name, reuse=True)
        while not probe.is_over and time.monotonic() - started < 120:
            self.keep_running()
            time.sleep(0.1)
            probe.refresh_from_db()
        self.recovery_s.append(time.monotonic() - started)
        (folder / "pause").unlink()

    def redis(self) -> Any:
        """The broker, asked directly."""
        from redis import Redis

        from controlplane.env import broker_socket

        return Redis(unix_socket_path=str(broker_socket()), socket_timeout=2)

    def _broker_answers(self) -> bool:
        try:
            return bool(self.redis().ping())
        except Exception:
            return False

    def kill(self, pid: int) -> None:
        """SIGKILL, and count it."""
        self._signal(pid, signal.SIGKILL)
        self.kills += 1

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def pid(self, name: str) -> int:
        """Of a process of ours."""
        popen = self.processes[name].popen
        if popen is None:
            raise ProcessLookupError(name)
        return popen.pid

    def pool(self) -> int:
        """The pid of one of the worker's pool processes."""
        main = self.pid("worker")
        return int(self.chance.choice(Path(f"/proc/{main}/task/{main}/children").read_text().split()))


def kill_pool(campaign: Campaign) -> None:
    """SIGKILL to a process of the worker's pool."""
    campaign.kill(campaign.pool())


def kill_worker(campaign: Campaign) -> None:
    """SIGKILL to the worker's main process."""
    campaign.kill(campaign.pid("worker"))


def kill_beat(campaign: Campaign) -> None:
    """SIGKILL to one of the two beats."""
    campaign.kill(campaign.pid(campaign.chance.choice(["beat", "beat-2"])))


def kill_broker(campaign: Campaign) -> None:
    """SIGKILL to the broker."""
    campaign.kill(campaign.pid("broker"))


def kill_job(campaign: Campaign) -> None:
    """SIGKILL to a job at work."""
    from workers.models import Attempt

    attempt = Attempt.objects.filter(slot__isnull=False, run__status="running").order_by("?").first()
    if attempt is not None:
        folder = campaign.data / "jobs" / attempt.launch_key
        pid = json.loads((folder / "claim").read_bytes())["pid"]
        if not (folder / "result.json").exists():
            campaign.job_kills[attempt.run_id] += 1
            campaign.kill(pid)


def stand_still(campaign: Campaign) -> None:
    """SIGSTOP to a pool process, until its leases are long over."""
    pid = campaign.pool()
    campaign.stopped[pid] = time.monotonic()
    os.kill(pid, signal.SIGSTOP)


def flush(campaign: Campaign) -> None:
    """The broker forgets everything."""
    campaign.redis().flushall()


def cut(campaign: Campaign) -> None:
    """Every connection to the broker is cut."""
    campaign.redis().execute_command("CLIENT", "KILL", "TYPE", "normal")


def repeat(campaign: Campaign) -> None:
    """The same message fifty times."""
    from workers.tasks import reconcile

    for _ in range(50):
        reconcile.apply_async(expires=10)


def cancel_one(campaign: Campaign) -> None:
    """Somebody cancels a run."""
    from workers.models import Run
    from workers.services import cancel

    run = Run.objects.filter(status__in=("queued", "launching", "running"), name__startswith="run-").last()
    if run is not None:
        cancel(run)


FAULTS = {
    "kill pool process": (30, kill_pool),
    "kill worker": (4, kill_worker),
    "kill beat": (6, kill_beat),
    "kill broker": (4, kill_broker),
    "kill job": (6, kill_job),
    "stand still": (4, stand_still),
    "flush broker": (5, flush),
    "cut connections": (5, cut),
    "fifty messages": (4, repeat),
    "cancel": (2, cancel_one),
}


def run(kills: int, seed: int, data: Path) -> dict[str, Any]:
    """The campaign; what it counted."""
    set_up(data)
    from django.db import connections

    folder = data / "hammer"
    folder.mkdir()
    connections.close_all()  # no connection crosses a fork
    hammering = os.fork()
    if hammering == 0:
        hammer(kills * 7 // 10, folder, seed)
        os._exit(0)
    campaign = Campaign(data, seed)
    started = time.monotonic()

    def hammered() -> int:
        with suppress(OSError, ValueError):
            return int((folder / "kills").read_text())
        return 0

    for _ in range(3 * SLOTS):
        campaign.launch()
    next_recovery = 30.0
    while hammered() + campaign.kills < kills:
        campaign.keep_running()
        if campaign.watch() < 3 * SLOTS:
            campaign.launch()
        campaign.fault()
        if time.monotonic() - started > next_recovery:
            campaign.recover(folder)
            next_recovery = time.monotonic() - started + 60
        time.sleep(campaign.chance.uniform(0, 0.6))
    (folder / "stop").touch()
    os.waitpid(hammering, 0)
    deadline = time.monotonic() + SETTLE_SECONDS
    while (stuck := campaign.watch()) and time.monotonic() < deadline:
        campaign.keep_running()
        time.sleep(0.5)
    campaign.recover(folder)
    campaign.watch()
    result = {
        "kills": hammered() + campaign.kills,
        "runs": len(campaign.launched) + len(campaign.recovery_s) - 1,
        "excess_launches": campaign.excess_launches(),
        "stuck": stuck,
        "changed_terminal": campaign.changed_terminal,
        "lost_writes": campaign.lost_writes(),
        "recovery_s_max": round(max(campaign.recovery_s), 1),
        "recoveries": len(campaign.recovery_s) - 1,
        "outcomes": Counter(state[0] for state in campaign.ended.values()),
        "faults": {"kill reconciler at a line": hammered(), **campaign.faults},
        "lease_s": LEASE,
        "seconds": round(time.monotonic() - started),
    }
    from controlplane.supervisor import end

    end([process for process in campaign.processes.values() if process.name != "broker"])
    end([campaign.processes["broker"]])
    return result


def main() -> int:
    """Run it and print what it counted; 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="switchyard-chaos-", ignore_cleanup_errors=True) as data:
        result = run(options.kills, options.seed, Path(data))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    held = ("excess_launches", "stuck", "changed_terminal", "lost_writes")
    return int(any(result[name] for name in held) or result["recovery_s_max"] > 60)


if __name__ == "__main__":
    sys.exit(main())
