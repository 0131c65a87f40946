"""Every message many times: a run is worked on once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.chaos.campaign import Campaign


def send_copies(campaign: Campaign, runs: int, copies: int) -> dict[str, Any]:
    """Launch `runs`, each with so many copies of its message; how many jobs did work for them."""
    from workers.models import Attempt, Run
    from workers.tasks import reconcile

    started, launched = time.monotonic(), []
    while len(launched) < runs:
        campaign.tend()
        if campaign.books.look() >= 6:
            time.sleep(0.1)
            continue
        launched.append(campaign.launch())
        for _ in range(copies):
            reconcile.apply_async()
    stuck = campaign.settle()
    keys = Attempt.objects.filter(run__in=launched).values_list("launch_key", flat=True)
    claims = [campaign.data / "jobs" / key / "claim" for key in keys]
    return {
        "runs": Run.objects.filter(pk__in=launched, status="succeeded").count(),
        "messages": runs * copies,
        "jobs": sum(claim.exists() for claim in claims),
        "stuck": stuck,
        "seconds": round(time.monotonic() - started),
    }
