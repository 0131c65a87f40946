"""What each kind of job gets on Modal; the app and the control plane must agree."""

from __future__ import annotations

import os

HOUR = 3600


def gpus(words: str) -> list[str]:
    """The GPUs of a list with commas, as Modal calls them."""
    return [word.strip().upper() for word in words.split(",") if word.strip()]


GPUS = gpus(os.environ.get("SWITCHYARD_MODAL_GPUS", "H100,A100-80GB,L40S"))
"""Those that train and evaluate may get, the first that is free; none: they run on CPUs."""
TRAIN_HOURS = float(os.environ.get("SWITCHYARD_MODAL_TRAIN_HOURS", "24"))

CPU = ["cpu"]
MACHINES = {"generate_dataset": CPU, "preprocess": CPU, "train": GPUS or CPU, "evaluate": GPUS or CPU}
"""The GPUs that a kind may get, the first that is free; or "cpu": 8 cores and 32 GiB."""

TIME_LIMITS = {
    "generate_dataset": 2 * HOUR,
    "preprocess": 4 * HOUR,
    "train": round(TRAIN_HOURS * HOUR),
    "evaluate": 4 * HOUR,
}
"""Seconds after which Modal ends a call."""
