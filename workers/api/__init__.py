"""The REST API of runs and pipelines."""
