"""App configuration."""

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """Runs, attempts and pipelines."""

    name = "workers"
    verbose_name = "Runs"

    def ready(self) -> None:
        """Register the system checks."""
        from workers import checks  # noqa: F401
