"""App configuration."""

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """Runs, attempts and pipelines."""

    name = "workers"
    verbose_name = "Runs"
