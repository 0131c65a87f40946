"""A campaign of faults against real processes: `python -m benchmarks.chaos`."""
