"""`python -m benchmarks.chaos [--kills 1000]`: a campaign of faults against real processes, and what must hold.

Broker, web, worker, two beats and local jobs of `generate_dataset` really run, on SQLite in a folder of its own, on a
small disk of its own where this user may mount one. Beside them a hammer forks reconcilers and kills each at a random
line of the platform's own code, so that every step of a launch and of a finalisation is hit, and launches, killed
between commit and message. Meanwhile worker (main and pool), web, beat, broker and jobs are killed, the broker is
flushed, silenced and its connections cut, a pool process stands still past its lease, messages come fifty times, the
disk fills up, runs and pipelines of two runs are launched, runs are cancelled. Then everything is left alone, and every
run and pipeline must come to its end.

Before, two beats walk through a simulated day; afterwards every message comes fifty times, and trainings are killed and
find a broken checkpoint.

The lease is 3 s instead of the product's 50, so that a kill does not hold a run up for the length of the campaign.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.chaos.disk import small_disk
from benchmarks.chaos.installation import set_up

RESULT = Path(__file__).resolve().parents[1] / "results" / "chaos.json"
NOUGHT = ("excess_launches", "stuck", "changed_terminal", "lost_writes", "unexplained")
COPIES = 50
RECOVERY_SECONDS, ANSWER_SECONDS = 60.0, 3.0


def parts(options: argparse.Namespace, data: Path, orders: Path) -> Iterator[dict[str, Any]]:
    """The campaign and what follows; what each part counted, as it ends."""
    with small_disk(data) as disk:
        token = set_up(data)
        from django.db import connections

        from benchmarks.chaos.campaign import Campaign
        from benchmarks.chaos.copies import send_copies
        from benchmarks.chaos.day import walk_a_day
        from benchmarks.chaos.hammer import Hammer
        from benchmarks.chaos.trainings import break_checkpoints

        yield {"schedule": walk_a_day()}
        connections.close_all()  # no connection crosses a fork
        hammer = Hammer(orders, options.kills * 7 // 10, options.seed)
        campaign = Campaign(data, disk, hammer, token, options.seed)
        try:
            yield campaign.run(options.kills, options.minutes * 60)
            yield {"copies": send_copies(campaign, options.copies, COPIES)}
            if not options.no_training:
                yield {"checkpoints": break_checkpoints(campaign)}
        finally:
            hammer.stop()
            campaign.processes.end()


def broken(result: dict[str, Any]) -> list[str]:
    """What did not hold."""
    copies, day = result["copies"], result["schedule"]
    found = {
        **{name: not result[name] for name in NOUGHT},
        "recovery_s_max": result["recovery_s_max"] <= RECOVERY_SECONDS,
        "answer_s_max_without_broker": result["answer_s_max_without_broker"] < ANSWER_SECONDS,
        "copies": 0 < copies["jobs"] == copies["runs"] == copies["messages"] // COPIES,
        "checkpoints": not result.get("checkpoints", {}).get("wrong"),
        "schedule": day["slots"] == day["pipelines"] == day["hours"] and not day["failed"],
    }
    return [name for name, held in found.items() if not held]


def main() -> int:
    """Run it and print what it counted; 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument(
        "--minutes", type=float, default=600, help="end the kills after so long, however many they were"
    )
    parser.add_argument("--copies", type=int, default=200, help="runs whose messages come fifty times")
    parser.add_argument("--no-training", action="store_true", help="leave the broken checkpoints out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="switchyard-chaos-", ignore_cleanup_errors=True) as data,
        tempfile.TemporaryDirectory(prefix="switchyard-hammer-") as orders,
    ):
        for part in parts(options, Path(data), Path(orders) / "hammer"):
            result |= part
            options.out.write_text(json.dumps(result, indent=2) + "\n")  # a long campaign may be broken off
    result["broken"] = broken(result)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return int(bool(result["broken"]))


if __name__ == "__main__":
    sys.exit(main())
