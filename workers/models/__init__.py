"""Runs: the record of every job."""

from workers.models.attempt import Attempt
from workers.models.heartbeat import Heartbeat
from workers.models.notice import Notice
from workers.models.pipeline import Pipeline
from workers.models.run import Run
from workers.models.slot import Slot

__all__ = ["Attempt", "Heartbeat", "Notice", "Pipeline", "Run", "Slot"]
