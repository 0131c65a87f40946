"""Runs: the record of every job."""

from workers.models.alert import Alert
from workers.models.attempt import Attempt
from workers.models.heartbeat import Heartbeat
from workers.models.notification import Notification
from workers.models.pipeline import Pipeline
from workers.models.run import Run
from workers.models.slot import Slot

__all__ = ["Alert", "Attempt", "Heartbeat", "Notification", "Pipeline", "Run", "Slot"]
