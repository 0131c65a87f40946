"""The admin of datasets."""

from datasets_app.admin.prepared import PreparedDatasetAdmin
from datasets_app.admin.routing import RoutingDatasetAdmin
from datasets_app.admin.sources import SourceDatasetAdmin

__all__ = ["PreparedDatasetAdmin", "RoutingDatasetAdmin", "SourceDatasetAdmin"]
