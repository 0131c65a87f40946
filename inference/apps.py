"""App configuration."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    """Stacked inference."""

    name = "inference"
    verbose_name = "Inference"
