"""Composition root: settings, URLs, Celery, the process entry points. Nobody imports it."""

from controlplane.celery import app as celery_app  # `@shared_task` binds to the app imported here

__all__ = ["celery_app"]
