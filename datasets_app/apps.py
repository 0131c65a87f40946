"""App configuration."""

from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    """Source, routing and prepared datasets."""

    name = "datasets_app"
    verbose_name = "Datasets"
