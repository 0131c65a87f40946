"""The process that hosts an engine: `python -m inference.server`."""
