"""What a job reports of its progress, checked where it enters: a job on a rented machine may write anything."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_ ./%-]{0,63}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Number = Annotated[float, Field(ge=0)]


def _finite(metrics: object) -> object:
    """A loss that is no number any more is shown as none; the report counts all the same."""
    if not isinstance(metrics, dict):
        return metrics
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and math.isfinite(value)}


class Report(BaseModel):
    """As `workers.recipes.progress.Meter` writes it; other fields are left out."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    step: Name
    done: Count
    total: Count
    metrics: Annotated[dict[Name, float], BeforeValidator(_finite), Field(max_length=64)] = {}
    percent: Annotated[float, Field(ge=0, le=100)] | None = None
    number: Count | None = None
    steps: Count | None = None
    rate: Number | None = None
    seconds_left: float | None = None
    restarts: Count | None = None
    at: Number | None = None


def checked(report: object) -> dict[str, Any]:
    """The report with the fields that there are; empty if it is none."""
    try:
        return Report.model_validate(report).model_dump(exclude_unset=True)
    except ValidationError:
        return {}
