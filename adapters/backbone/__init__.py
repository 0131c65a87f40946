"""The frozen network that all adapters share. `spec` is torch-free; `loading` is the one place that loads it."""

import os

# Idle OpenMP threads that spin starve the working ones on a busy machine; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
