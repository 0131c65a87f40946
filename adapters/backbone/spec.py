"""Which base model: what can be known of it without loading it, and so without torch."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_app.errors import InputError

TINY_BASE = Path(__file__).parent / "tiny" / "weights"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
CHUNK = 1 << 20
SMALL_HIDDEN_SIZE = 512


class BaseError(InputError):
    """The base model cannot be used; the message says which and why."""


@dataclass(frozen=True)
class BaseSpec:
    """A base model: `path` is a local folder or a hub id (then `revision` pins its commit).

    `dtype` is auto, float32, bfloat16 or float16; `device` is auto, cpu, cuda or cuda:N.
    """

    path: str = str(TINY_BASE)
    revision: str | None = None
    dtype: str = "float32"
    device: str = "auto"

    @property
    def is_local(self) -> bool:
        """Whether `path` is a folder on this machine."""
        return Path(self.path).expanduser().is_dir()


def is_small(base: BaseSpec) -> bool:
    """Whether the base is one for laptops, with a hidden size of at most 512."""
    if not base.is_local:
        return False
    config = json.loads((Path(base.path).expanduser() / "config.json").read_bytes())
    return int(config["text_config"]["hidden_size"]) <= SMALL_HIDDEN_SIZE


def pick_dtype(wanted: str, device: str, base: BaseSpec) -> str:
    """What "auto" is, in training and in serving: bfloat16 for a large base on a GPU, else float32, which is faster on
    CPUs.
    """
    if wanted != "auto":
        return wanted
    return "bfloat16" if device == "cuda" and not is_small(base) else "float32"


def fingerprint(spec: BaseSpec) -> str:
    """`sha256:…` over the names and contents of the folder's files, or over a hub id and its revision.

    Raises BaseError for a folder that does not exist and for a hub id without a revision.
    """
    if spec.is_local:
        return _folder_fingerprint(Path(spec.path).expanduser().resolve())
    if not HUB_ID.fullmatch(spec.path):
        raise BaseError(f"Base model {spec.path!r} is neither a folder nor a hub id like 'Qwen/Qwen3-VL-8B-Instruct'.")
    if not spec.revision:
        raise BaseError(f"Base model {spec.path!r} comes from the hub: pin its revision (a commit hash).")
    return "sha256:" + hashlib.sha256(f"{spec.path}@{spec.revision}".encode()).hexdigest()


def _folder_fingerprint(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.suffix in {".json", ".safetensors", ".jinja", ".txt"})
    if not (folder / "config.json").is_file():
        raise BaseError(f"Base model folder {folder} has no config.json.")
    total = hashlib.sha256()
    for path in files:
        stat = path.stat()
        total.update(f"{path.name} {_file_hash(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return "sha256:" + total.hexdigest()


@functools.lru_cache(maxsize=256)
def _file_hash(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def pixel_budget(spec: BaseSpec) -> tuple[int, int]:
    """The least and most pixels of a screenshot after resizing, as the base's processor is configured."""
    if not spec.is_local:
        return 256 * 32 * 32, 1280 * 32 * 32  # Qwen3-VL's documented working range
    folder = Path(spec.path).expanduser()
    try:
        size = _image_processor(folder)["size"]
        return int(size["shortest_edge"]), int(size["longest_edge"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseError(f"{folder} does not say its pixel budget (size.shortest_edge, size.longest_edge).") from error


def tile_pixels(spec: BaseSpec) -> int:
    """The pixels that one token stands for: budgets are multiples of it."""
    if not spec.is_local:
        return 32 * 32
    folder = Path(spec.path).expanduser()
    try:
        config = _image_processor(folder)
        return (int(config["patch_size"]) * int(config["merge_size"])) ** 2
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseError(f"{folder} does not say the size of its patches (patch_size, merge_size).") from error


def _image_processor(folder: Path) -> dict[str, Any]:
    if (folder / "preprocessor_config.json").exists():
        return dict(json.loads((folder / "preprocessor_config.json").read_bytes()))
    return dict(json.loads((folder / "processor_config.json").read_bytes())["image_processor"])
