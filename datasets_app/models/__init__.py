"""Datasets, from an expert's own examples to what training reads."""

from datasets_app.models.prepared_dataset import PreparedDataset
from datasets_app.models.routing_dataset import RoutingDataset
from datasets_app.models.source_dataset import SourceDataset

__all__ = ["PreparedDataset", "RoutingDataset", "SourceDataset"]
