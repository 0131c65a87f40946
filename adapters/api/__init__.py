"""The REST API of adapters."""
