"""One function a fault; `FAULTS` says how often each is done."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.installation import LEASE

if TYPE_CHECKING:
    from benchmarks.chaos.campaign import Campaign

SILENT_SECONDS = 8.0  # of a broker: longer than any timeout of its clients


def kill_pool(campaign: Campaign) -> None:
    """SIGKILL to a process of the worker's pool."""
    campaign.processes.kill(campaign.processes.child("worker"))


def kill_worker(campaign: Campaign) -> None:
    """SIGKILL to the worker's main process."""
    campaign.processes.kill(campaign.processes.pid("worker"))


def end_worker_warm(campaign: Campaign) -> None:
    """SIGTERM: the worker ends what it is at."""
    campaign.processes.signal(campaign.processes.pid("worker"), signal.SIGTERM)


def end_worker_cold(campaign: Campaign) -> None:
    """SIGQUIT: the worker drops what it is at."""
    campaign.processes.signal(campaign.processes.pid("worker"), signal.SIGQUIT)


def kill_web(campaign: Campaign) -> None:
    """SIGKILL to the web process, or to the one that answers for it."""
    find = campaign.chance.choice([campaign.processes.pid, campaign.processes.child])
    campaign.processes.kill(find("web"))


def kill_beat(campaign: Campaign) -> None:
    """SIGKILL to one of the two beats."""
    campaign.processes.kill(campaign.processes.pid(campaign.chance.choice(["beat", "beat-2"])))


def kill_broker(campaign: Campaign) -> None:
    """SIGKILL to the broker."""
    campaign.processes.kill(campaign.processes.pid("broker"))


def silence_broker(campaign: Campaign) -> None:
    """The broker takes connections and answers nobody."""
    campaign.processes.stop(campaign.processes.pid("broker"), SILENT_SECONDS)


def kill_job(campaign: Campaign) -> None:
    """SIGKILL to a job at work."""
    from workers.compute import get_compute
    from workers.compute.types import JobState
    from workers.models import Attempt

    attempt = Attempt.objects.filter(slot__isnull=False, run__status="running").order_by("?").first()
    if attempt is not None and get_compute("local").poll(attempt.launch_key).state == JobState.RUNNING:
        pid = json.loads((campaign.data / "jobs" / attempt.launch_key / "claim").read_bytes())["pid"]
        campaign.books.killed.add(attempt.launch_key)
        campaign.processes.kill(pid)


def stand_still(campaign: Campaign) -> None:
    """SIGSTOP to a pool process, until its leases are long over."""
    campaign.processes.stop(campaign.processes.child("worker"), 2 * LEASE)


def flush(campaign: Campaign) -> None:
    """The broker forgets everything."""
    broker().flushall()


def cut(campaign: Campaign) -> None:
    """Every connection to the broker is cut."""
    broker().execute_command("CLIENT", "KILL", "TYPE", "normal")


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
    if run is not None and cancel(run).cancel_requested:
        campaign.books.cancelled.add(run.pk)


def fill_disk(campaign: Campaign) -> None:
    """No room on the disk for anybody."""
    campaign.fill_disk()


def broker() -> Any:
    """The broker, asked directly."""
    from redis import Redis

    from controlplane.env import broker_socket

    return Redis(unix_socket_path=str(broker_socket()), socket_timeout=2)


FAULTS: dict[str, tuple[int, Callable[[Campaign], None]]] = {
    "kill pool process": (30, kill_pool),
    "kill worker": (4, kill_worker),
    "end worker warm": (2, end_worker_warm),
    "end worker cold": (2, end_worker_cold),
    "kill web": (3, kill_web),
    "kill beat": (6, kill_beat),
    "kill broker": (4, kill_broker),
    "silence broker": (2, silence_broker),
    "kill job": (6, kill_job),
    "stand still": (4, stand_still),
    "flush broker": (5, flush),
    "cut connections": (5, cut),
    "fifty messages": (4, repeat),
    "cancel": (2, cancel_one),
    "fill disk": (2, fill_disk),
}
