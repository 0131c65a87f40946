"""The engine that answers in this process: one base model, its adapters, one thread that owns them."""

from inference.engines.in_process.engine import InProcessEngine, Limits
from inference.engines.in_process.runner import generate_batch, route_scores

__all__ = ["InProcessEngine", "Limits", "generate_batch", "route_scores"]
