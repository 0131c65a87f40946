"""What jobs cost: expected before a launch, counted after it."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from datasets_app.errors import InputError
from workers.models import Attempt, Run
from workers.states import ACTIVE

CENT = Decimal("0.01")
RECENT = 5  # attempts that an estimate is taken from


def cost(kind: str, backend: str, seconds: float) -> Decimal:
    """Dollars for that many seconds; 0 on a backend without prices."""
    price = settings.COMPUTE[backend].get("PRICES", {}).get(kind, 0)
    return (Decimal(str(price)) * Decimal(str(round(seconds, 1)))).quantize(Decimal("0.0001"))


def estimate(kind: str, backend: str) -> Decimal:
    """What a run of the kind will cost at most, going by the last ones; without any, by the assumed time."""
    past = Attempt.objects.filter(run__kind=kind, run__backend=backend, outcome="succeeded").order_by("-ended_at")
    recent = list(past.values_list("cost", flat=True)[:RECENT])
    assumed = settings.COMPUTE[backend].get("ASSUMED_SECONDS", {}).get(kind, 0)
    return max(recent) if recent else cost(kind, backend, assumed)


def spent_today(backend: str) -> Decimal:
    """The cost of today's attempts that have ended, with the estimate for each run that is not over."""
    today = Attempt.objects.filter(run__backend=backend, created_at__date=timezone.now().date())
    ended = today.exclude(outcome="").aggregate(sum=Sum("cost"))["sum"] or Decimal(0)
    under_way = Run.objects.filter(backend=backend, status__in=ACTIVE).values_list("kind", flat=True)
    return ended + sum((estimate(kind, backend) for kind in under_way), Decimal(0))


def check_affordable(kind: str, backend: str) -> Decimal:
    """The estimate; InputError with the sums if it is over the cap of a run or of the day."""
    config, expected = settings.COMPUTE[backend], estimate(kind, backend)
    if (cap := config.get("MAX_PER_RUN")) and expected > cap:
        raise InputError(f"{kind} on {backend!r} is expected to cost ${_(expected)}; a run may cost ${_(cap)}.")
    if cap := config.get("MAX_PER_DAY"):
        spent = spent_today(backend)
        if spent + expected > cap:
            raise InputError(
                f"{kind} on {backend!r} is expected to cost ${_(expected)}, with the ${_(spent)} of today "
                f"${_(spent + expected)}; a day may cost ${_(cap)}."
            )
    return expected


def _(dollars: Decimal | float) -> Decimal:
    return Decimal(str(dollars)).quantize(CENT)
