"""Adapters and what is known of them."""

from adapters.models.adapter import Adapter
from adapters.models.alias import Alias
from adapters.models.base_model import BaseModel
from adapters.models.evaluation import Evaluation
from adapters.models.promotion import Promotion
from adapters.models.stack import Stack
from adapters.models.version import AdapterVersion

__all__ = ["Adapter", "AdapterVersion", "Alias", "BaseModel", "Evaluation", "Promotion", "Stack"]
