"""App configuration."""

from django.apps import AppConfig


class AdaptersConfig(AppConfig):
    """Base models, adapters, stacks, evaluations."""

    name = "adapters"
    verbose_name = "Adapters"
