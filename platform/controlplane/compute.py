"""Where jobs run, what they may cost, and how long they may take."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from controlplane.env import DATA, env
from controlplane.machine import threads
from datasets_app.errors import InputError
from workers.remote.machines import (
    BESIDE_GPU,
    GPUS,
    GPUS_SETTING,
    MACHINES,
    TIME_LIMITS,
    WITHOUT_GPU,
    Reserved,
    check_gpus,
)
from workers.remote.names import Names

# Dollars a second, as published in May 2026; to be compared with modal.com/pricing now and then.
CORE, GIB = 0.0000131, 0.00000222
GPU_PRICES = {
    "B200": 0.001736,
    "H200": 0.001261,
    "H100": 0.001097,
    "A100-80GB": 0.000694,
    "A100-40GB": 0.000583,
    "L40S": 0.000542,
    "A10": 0.000306,
    "L4": 0.000222,
    "T4": 0.000164,
}


def _rent(reserved: Reserved, gpu: float = 0.0) -> float:
    """Dollars a second of a machine with that GPU."""
    return round(gpu + CORE * reserved.cores + GIB * reserved.gib, 6)


PRICES = {"cpu": _rent(WITHOUT_GPU), **{name: _rent(BESIDE_GPU, gpu) for name, gpu in GPU_PRICES.items()}}

try:
    check_gpus(GPUS_SETTING, GPUS)
except InputError as error:
    raise ImproperlyConfigured(str(error)) from error

COMPUTE: dict[str, Any] = {
    "local": {
        "BACKEND": "workers.compute.local.LocalCompute",
        "OPTIONS": {"root": str(DATA / "jobs"), "threads": threads(env.int("SWITCHYARD_LOCAL_SLOTS"))},
        "SLOTS": env.int("SWITCHYARD_LOCAL_SLOTS"),
    },
    "modal": {
        "BACKEND": "workers.compute.modal.ModalCompute",
        "OPTIONS": {
            "root": str(DATA / "modal"),
            "environment": env.str("MODAL_ENVIRONMENT", "") or None,
            "version": env.int("SWITCHYARD_MODAL_VERSION") or None,
            **asdict(Names.from_env()),
        },
        "SLOTS": env.int("SWITCHYARD_MODAL_SLOTS"),
        "POLL": timedelta(seconds=5),
        "DEADLINE": timedelta(hours=env.float("SWITCHYARD_MODAL_DEADLINE_HOURS")),
        "PRICES": PRICES,
        "MACHINES": MACHINES,
        "TIME_LIMITS": TIME_LIMITS,
        "MAX_PER_RUN": env.float("SWITCHYARD_MODAL_MAX_PER_RUN"),  # dollars; 0 is no cap
        "MAX_PER_DAY": env.float("SWITCHYARD_MODAL_MAX_PER_DAY"),
    },
}
COMPUTE_DEFAULT = env.str("SWITCHYARD_COMPUTE")
LEASE_SECONDS = env.float("SWITCHYARD_LEASE_SECONDS")  # how long a killed worker holds up what it was at
RUN_LIMITS: dict[str, float] = {  # seconds
    "LAUNCH": 30 * 60,  # a backend that takes no job fails the run after that
    "STALL": env.float("SWITCHYARD_STALL_SECONDS"),  # a job without progress is cancelled, and launched again
    "CANCEL": 2 * 60,  # from the wish to end a job to giving it up
    "FINALIZE": 30 * 60,
    "TOTAL": 7 * 24 * 3600,  # of a run without a time limit of its own
}
