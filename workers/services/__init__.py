"""Every change to runs and pipelines."""

from workers.services.account import account_problems, look_at_account
from workers.services.adding import add_expert, retrain_router
from workers.services.advancing import advance, advance_all
from workers.services.cancelling import cancel_unless_over
from workers.services.concluding import conclude_all
from workers.services.launching import cancel, launch, log_tail, retry
from workers.services.notifications import deliver_due, mark_read
from workers.services.pipelines import (
    cancel_pipeline,
    launch_expert_pipeline,
    launch_router_pipeline,
    retry_pipeline,
)
from workers.services.reevaluating import reevaluate
from workers.services.retention import prune
from workers.services.schedule import run_due, run_now
from workers.services.sizes import sizes_of, source_sizes

__all__ = [
    "account_problems",
    "add_expert",
    "advance",
    "advance_all",
    "cancel",
    "cancel_pipeline",
    "cancel_unless_over",
    "conclude_all",
    "deliver_due",
    "launch",
    "launch_expert_pipeline",
    "launch_router_pipeline",
    "log_tail",
    "look_at_account",
    "mark_read",
    "prune",
    "reevaluate",
    "retrain_router",
    "retry",
    "retry_pipeline",
    "run_due",
    "run_now",
    "sizes_of",
    "source_sizes",
]
