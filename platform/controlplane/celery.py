"""The Celery app; all of its options are `CELERY_*` in the settings."""

import os
from typing import Any, Self

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

RETRY_SECONDS = 2


class SteadyConnection(Connection):
    """Looks for a lost broker every two seconds; kombu's own waits up to thirty once it has been gone for long."""

    def ensure_connection(self, *args: Any, **options: Any) -> Self:
        """Return when the broker is there, or raise after so many retries as are allowed."""
        return super().ensure_connection(*args, **{"interval_max": RETRY_SECONDS, **options})


class Broker(AMQP):
    """How worker, beat and web reach the broker."""

    Connection = SteadyConnection


app = Celery("switchyard", amqp=Broker)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
