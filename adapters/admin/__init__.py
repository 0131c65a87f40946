"""The admin of adapters."""

from adapters.admin.adapters import AdapterAdmin
from adapters.admin.base_models import BaseModelAdmin
from adapters.admin.evaluations import EvaluationAdmin
from adapters.admin.stacks import AliasAdmin, PromotionAdmin, StackAdmin
from adapters.admin.versions import AdapterVersionAdmin

__all__ = [
    "AdapterAdmin",
    "AdapterVersionAdmin",
    "AliasAdmin",
    "BaseModelAdmin",
    "EvaluationAdmin",
    "PromotionAdmin",
    "StackAdmin",
]
