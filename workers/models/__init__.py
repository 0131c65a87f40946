"""Runs: the record of every job."""

from workers.models.attempt import Attempt
from workers.models.pipeline import Pipeline
from workers.models.run import Run

__all__ = ["Attempt", "Pipeline", "Run"]
