"""Every change to runs and pipelines."""

from workers.services.advancing import advance, advance_all
from workers.services.launching import cancel, launch, log_tail, wait
from workers.services.pipelines import cancel_pipeline, launch_expert_pipeline, launch_router_pipeline

__all__ = [
    "advance",
    "advance_all",
    "cancel",
    "cancel_pipeline",
    "launch",
    "launch_expert_pipeline",
    "launch_router_pipeline",
    "log_tail",
    "wait",
]
