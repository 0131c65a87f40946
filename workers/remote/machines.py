"""What each kind of job gets on Modal; the app and the control plane must agree."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from datasets_app.errors import InputError

MINUTE = 60
HOUR = 60 * MINUTE


@dataclass(frozen=True)
class Reserved:
    """Processor cores and memory of a container."""

    cores: int
    gib: int

    def as_options(self) -> dict[str, int]:
        """As Modal takes them: memory in MiB."""
        return {"cpu": self.cores, "memory": self.gib * 1024}


def gpus(words: str) -> list[str]:
    """The GPUs of a list with commas, as Modal calls them."""
    return [word.strip().upper().removesuffix(":1") for word in words.split(",") if word.strip()]


def check_gpus(setting: str, found: Iterable[str]) -> None:
    """InputError for several GPUs at once: all of them would be paid, and one of them used."""
    for word in found:
        name, several, _ = word.partition(":")
        if several:
            raise InputError(
                f"{setting}: {word!r} asks for several GPUs, and a container computes on one: write {name}."
            )


GPUS_SETTING = "SWITCHYARD_MODAL_GPUS"
GPUS = gpus(os.environ.get(GPUS_SETTING, "H100,A100-80GB,L40S"))
"""Those that train and evaluate may get, the first that is free; none: they run on CPUs."""
TRAIN_HOURS = float(os.environ.get("SWITCHYARD_MODAL_TRAIN_HOURS", "24"))

CPU = ["cpu"]
MACHINES = {"generate_dataset": CPU, "preprocess": CPU, "train": GPUS or CPU, "evaluate": GPUS or CPU}
"""The GPUs that a kind may get, the first that is free; or "cpu"."""
WITHOUT_GPU = Reserved(cores=8, gib=32)
BESIDE_GPU = Reserved(cores=4, gib=32)

STARTUP_LIMIT = 10 * MINUTE
"""Seconds after which Modal ends a container that has not begun its call: pulled image, imported code."""
TIME_LIMITS = {
    "generate_dataset": 2 * HOUR,
    "preprocess": 4 * HOUR,
    "train": round(TRAIN_HOURS * HOUR),
    "evaluate": 4 * HOUR,
}
"""Seconds after which Modal ends a call."""
