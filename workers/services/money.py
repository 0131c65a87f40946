"""What jobs cost: expected before a launch, counted while they run and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, timedelta
from decimal import Decimal
from functools import cache
from statistics import median
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Max, Min, Sum
from django.utils import timezone

from datasets_app.errors import InputError
from workers.compute.types import JobStatus
from workers.models import Attempt, Run
from workers.services.limits import Ending, limit
from workers.states import ACTIVE, Status

CENT = Decimal("0.01")
RECENT = 5  # runs that an estimate is taken from


@dataclass(frozen=True)
class Estimate:
    """What a run will take: the median of the last `runs` of its kind and their spread, in seconds and dollars.

    Without such runs all figures are what its time limit allows on the dearest machine that it may get.
    """

    runs: int
    seconds: float
    shortest: float
    longest: float
    dollars: Decimal
    at_most: Decimal

    def __str__(self) -> str:
        if not self.runs and not self.at_most:
            return "no earlier run to go by"
        if not self.runs:
            words = f"at most {_duration(self.seconds)}, ${_(self.at_most)}"
            return f"{words} by its time limit (no earlier run to go by)"
        several = self.runs > 1
        spread = f" ({_duration(self.shortest)} to {_duration(self.longest)} in the last {self.runs} runs)"
        most = f" (at most ${_(self.at_most)})" if several else ""
        cost = f", ${_(self.dollars)}{most}" if self.at_most else ""
        return f"about {_duration(self.seconds)}{spread if several else ' (as the last run)'}{cost}"


def price(kind: str, backend: str, machine: str = "") -> Decimal:
    """Dollars a second of the machine that a job found, or of the dearest that the kind may get; 0 without prices.

    A price's name is in the machine's: "A100-80GB" in "NVIDIA A100-SXM4-80GB".
    """
    prices: dict[str, float] = settings.COMPUTE[backend].get("PRICES", {})
    named = (name for name in sorted(prices, key=len, reverse=True) if all(word in machine for word in name.split("-")))
    if (found := next(named, None)) is not None:
        return _dollars(prices[found])
    return max((_dollars(prices.get(_price_name(word), 0)) for word in _words(kind, backend)), default=Decimal(0))


def cost(kind: str, backend: str, seconds: float, machine: str = "") -> Decimal:
    """Dollars for that many seconds."""
    return (price(kind, backend, machine) * _dollars(round(seconds, 1))).quantize(Decimal("0.0001"))


def is_paid(backend: str) -> bool:
    """Whether its machines have prices."""
    return bool(settings.COMPUTE.get(backend, {}).get("PRICES"))


def charge(attempt: Attempt, job: JobStatus) -> None:
    """Count what the attempt has cost so far; of a backend that says nothing, since it is known to have begun."""
    now, run = timezone.now(), attempt.run
    if job.seconds:
        attempt.began_at = attempt.began_at or now - timedelta(seconds=job.seconds)
        attempt.seconds, attempt.machine = job.seconds, job.machine or attempt.machine
    elif attempt.began_at:
        attempt.seconds = (now - attempt.began_at).total_seconds()
    attempt.cost = cost(run.kind, run.backend, attempt.seconds, attempt.machine)
    attempt.save(update_fields=["began_at", "seconds", "machine", "cost"])


def estimate(kind: str, backend: str, time_limit: float | None = None) -> Estimate:
    """What a run of the kind will take there, going by the last ones; after `time_limit` seconds it is ended."""
    allowed = _allowed(kind, backend, time_limit)
    past = Run.objects.filter(kind=kind, backend=backend, status=Status.SUCCEEDED, reused_from=None)
    newest = list(past.order_by("-id").values_list("pk", flat=True)[:RECENT])  # first: a sum of all reads all
    each_run = Attempt.objects.filter(run__in=newest).order_by().values("run")
    summed = each_run.annotate(
        dollars=Sum("cost"), held=Sum("seconds"), first=Min("created_at"), last=Max("ended_at")
    ).values_list("dollars", "held", "first", "last")
    recent = [(dollars, held or (last - first).total_seconds()) for dollars, held, first, last in summed if last]
    if not recent:
        most = cost(kind, backend, allowed)
        return Estimate(0, allowed, allowed, allowed, most, most)
    dollars, seconds = zip(*recent, strict=True)
    most = min(max(dollars), cost(kind, backend, allowed)) if time_limit else max(dollars)
    return Estimate(len(recent), median(seconds), min(seconds), max(seconds), median(dollars), most)


def together(estimates: Iterable[Estimate]) -> Estimate:
    """One after the other; of the fewest runs."""
    parts = list(estimates)

    def total(name: str) -> Any:
        return sum((getattr(part, name) for part in parts[1:]), getattr(parts[0], name))

    figures = {name: total(name) for name in ("seconds", "shortest", "longest", "dollars", "at_most")}
    return Estimate(min(part.runs for part in parts), **figures)


def spent_today(backend: str) -> Decimal:
    """What the attempts that ended today have cost, with what each run that is not over will cost at most."""
    active = Run.objects.filter(backend=backend, status__in=ACTIVE).order_by().values("pk", "kind", "time_limit")
    spent = active.annotate(dollars=Sum("attempts__cost", default=0)).values_list("kind", "time_limit", "dollars")
    at_most = cache(lambda kind, time_limit: estimate(kind, backend, time_limit).at_most)
    expected = sum((max(dollars, at_most(kind, time_limit)) for kind, time_limit, dollars in spent), Decimal(0))
    return _ended_today(backend) + expected


def over_cap(run: Run, attempt: Attempt) -> Ending | None:
    """Why the run's job has to end if its attempts together have held machines for longer than its kind may, or have
    cost more than a run may cost, or if the day has cost what it may. Nobody waits until the backend says that it did.
    """
    config = settings.COMPUTE[run.backend]
    cap, allowed = config.get("MAX_PER_RUN"), config.get("TIME_LIMITS", {}).get(run.kind)
    total = run.attempts.aggregate(held=Sum("seconds"), spent=Sum("cost")) if cap or allowed else {}
    if cap and total["spent"] > cap:
        words = f"It has cost ${_(total['spent'])}; a run may cost ${_(cap)}."
    elif allowed and total["held"] > allowed:
        words = (
            f"It has held machines for {_duration(total['held'])} in all, and may for {_duration(allowed)}: "
            "launch again to go on from the last checkpoint."
        )
    else:
        words = over_day(run.backend)
    return Ending(Status.FAILED, words, attempt.created_at) if words else None


def over_day(backend: str) -> str:
    """That the backend's runs have cost today what a day may cost, in words; '' if they have not."""
    cap = settings.COMPUTE.get(backend, {}).get("MAX_PER_DAY")
    if not cap:
        return ""
    active = Attempt.objects.filter(run__backend=backend, run__status__in=ACTIVE).aggregate(sum=Sum("cost"))["sum"]
    spent = _ended_today(backend) + (active or Decimal(0))
    return f"Today's runs have cost ${_(spent)}; a day may cost ${_(cap)}." if spent >= cap else ""


def check_affordable(kind: str, backend: str, time_limit: float | None = None) -> Estimate:
    """The estimate; InputError with the sums if it is over the cap of a run or of the day, or if a machine that it
    may get has no price while there is a cap. To be called in the transaction that makes the run.
    """
    config, expected = settings.COMPUTE[backend], estimate(kind, backend, time_limit)
    if (config.get("MAX_PER_RUN") or config.get("MAX_PER_DAY")) and "PRICES" in config:
        for word in _words(kind, backend):
            if _price_name(word) not in config["PRICES"]:
                raise InputError(
                    f"{kind} on {backend!r} may get {word!r}, which has no price: a cap on the cost cannot be kept."
                )
    words = f"{kind} on {backend!r} may cost up to ${_(expected.at_most)}"
    if not expected.runs:
        words += f" within its time limit of {_duration(expected.seconds)}, for want of earlier runs to go by"
    if (cap := config.get("MAX_PER_RUN")) and expected.at_most > cap:
        raise InputError(f"{words}; a run may cost ${_(cap)}.")
    if cap := config.get("MAX_PER_DAY"):
        _one_at_a_time()
        spent = spent_today(backend)
        if spent + expected.at_most > cap:
            raise InputError(
                f"{words}, with the ${_(spent)} of today ${_(spent + expected.at_most)}; a day may cost ${_(cap)}."
            )
    return expected


def _ended_today(backend: str) -> Decimal:
    """Of runs that are over; the attempts of the others count as a whole."""
    midnight = timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today = Attempt.objects.filter(run__backend=backend, ended_at__gte=midnight)
    return today.exclude(run__status__in=ACTIVE).aggregate(sum=Sum("cost"))["sum"] or Decimal(0)


def _one_at_a_time() -> None:
    """Let nobody else count until this transaction ends. SQLite's take the only lock when they begin."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('switchyard.launches'))")


def _words(kind: str, backend: str) -> list[str]:
    """The machines that the kind may get, as the backend is asked for them."""
    return list(settings.COMPUTE[backend].get("MACHINES", {}).get(kind, ()))


def _price_name(word: str) -> str:
    """ "H100" of "H100!", where "!" refuses a better one."""
    return word.removesuffix("!")


def _allowed(kind: str, backend: str, time_limit: float | None) -> float:
    """Seconds for which a run may hold machines, in all its attempts together: `over_cap` ends it then."""
    config = settings.COMPUTE[backend]
    own = config.get("TIME_LIMITS", {}).get(kind) or limit("TOTAL").total_seconds()
    return float(min(time_limit or own, own))


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def _dollars(amount: float) -> Decimal:
    return Decimal(str(amount))


def _(dollars: Decimal | float) -> Decimal:
    return Decimal(str(dollars)).quantize(CENT)
