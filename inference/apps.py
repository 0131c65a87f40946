"""App configuration."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    """Stacked inference."""

    name = "inference"
    verbose_name = "Inference"

    def ready(self) -> None:
        """Register the checks."""
        from inference import checks  # noqa: F401
