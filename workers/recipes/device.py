"""Where a job computes and in which precision, when its spec says "auto"."""

from __future__ import annotations

import json
import os
from pathlib import Path

from adapters.backbone.spec import BaseSpec
from datasets_app.errors import InputError

SMALL_HIDDEN_SIZE = 512


def is_small(base: BaseSpec) -> bool:
    """Whether the base is one for laptops, with a hidden size of at most 512."""
    if not base.is_local:
        return False
    config = json.loads((Path(base.path).expanduser() / "config.json").read_bytes())
    return int(config["text_config"]["hidden_size"]) <= SMALL_HIDDEN_SIZE


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


def pick_dtype(wanted: str, device: str, base: BaseSpec) -> str:
    """bfloat16 for a large base on a GPU, else float32: on CPUs bfloat16 is slower."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if device == "cuda" and not is_small(base) else "float32"
