"""Where a job computes when its spec says "auto"."""

from __future__ import annotations

import os

from datasets_app.errors import InputError


def pick_device(wanted: str) -> str:
    """ "cpu" or "cuda", which is one GPU: the others are hidden from this process before CUDA starts."""
    if wanted == "cpu":
        return wanted
    index = wanted.partition(":")[2]
    if index or "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = index or "0"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted != "auto":
        raise InputError(f"device: {wanted!r} is not there; this machine offers no such GPU.")
    return "cpu"
