"""The admin of runs, and the actions on other pages that launch them."""

from workers.admin.adapters import LaunchingAdapterAdmin, LaunchingVersionAdmin
from workers.admin.datasets import LaunchingRoutingDatasetAdmin, LaunchingSourceDatasetAdmin
from workers.admin.pipelines import PipelineAdmin
from workers.admin.promotions import RollbackPromotionAdmin
from workers.admin.records import AlertAdmin, NotificationAdmin, SlotAdmin
from workers.admin.runs import RunAdmin

__all__ = [
    "AlertAdmin",
    "LaunchingAdapterAdmin",
    "LaunchingRoutingDatasetAdmin",
    "LaunchingSourceDatasetAdmin",
    "LaunchingVersionAdmin",
    "NotificationAdmin",
    "PipelineAdmin",
    "RollbackPromotionAdmin",
    "RunAdmin",
    "SlotAdmin",
]
