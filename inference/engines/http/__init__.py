"""The engine behind an OpenAI server that serves LoRA adapters as vLLM does; no torch on this side."""

from inference.engines.http.engine import HttpEngine

__all__ = ["HttpEngine"]
