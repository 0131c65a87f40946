"""The engine that answers in this process: one base model, its adapters, one thread that runs them."""

from inference.engines.in_process.engine import InProcessEngine
from inference.engines.in_process.runner import generate_batch, route_scores
from inference.engines.limits import Limits

__all__ = ["InProcessEngine", "Limits", "generate_batch", "route_scores"]
