"""The weights' file: its header, with caps of our own before the library sees it, and a scan of the values.

The format (https://huggingface.co/docs/safetensors): eight bytes, the header's length as a little-endian u64;
the header, a JSON object of name → dtype, shape, data_offsets; then the values, back to back.
"""

from __future__ import annotations

import pickletools
import tempfile
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from datasets_app.errors import InputError
from datasets_app.strict_json import json_object

WEIGHTS_FILE = "adapter_model.safetensors"

MAX_HEADER_BYTES = 4 * 2**20  # 504 LoRA tensors of an 8B base take 75 kB
MAX_TENSORS = 20_000
CHUNK_BYTES = 4 * 2**20
PEEK_BYTES = 2**16  # to tell what a file is that is no safetensors

# bytes a value, unsigned type of that width, exponent bits (all set: Inf or NaN), all bits but the sign
_FLOATS: dict[str, tuple[int, type[np.unsignedinteger[Any]], int, int]] = {
    "F32": (4, np.uint32, 0x7F80_0000, 0x7FFF_FFFF),
    "F16": (2, np.uint16, 0x7C00, 0x7FFF),
    "BF16": (2, np.uint16, 0x7F80, 0x7FFF),
}


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies: `start` and `end` are byte offsets in the file."""

    name: str
    dtype: str  # "F32", "F16" or "BF16"
    shape: tuple[int, ...]
    start: int
    end: int


def name_some(names: list[str]) -> str:
    """The first five of `names` and how many more there are, for a message."""
    shown = ", ".join(name[:120] for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def read_header(file: BinaryIO, size: int) -> list[Tensor]:
    """Return the tensors of a safetensors `file` of `size` bytes, in file order; InputError if malformed.

    Only the header is read, and the library judges it. What it lets pass is refused here: large headers, no tensors or
    very many, keys that occur twice or that it does not know, and other values than floats.
    """
    head = _read_head(file, size)
    header = json_object(head[8:], f"The header of {WEIGHTS_FILE}")
    header.pop("__metadata__", None)
    if not 0 < len(header) <= MAX_TENSORS:
        raise InputError(f"{WEIGHTS_FILE} must hold between 1 and {MAX_TENSORS} tensors.")
    _check_structure(head, size)
    tensors = [_tensor(name, entry, len(head)) for name, entry in header.items()]
    return sorted(tensors, key=lambda tensor: (tensor.start, tensor.end))


def _read_head(file: BinaryIO, size: int) -> bytes:
    """The header with the eight bytes of its length."""
    file.seek(0)
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise InputError(f"{WEIGHTS_FILE} is {_foreign(file) or 'not a safetensors file: its header length is wrong'}.")
    return prefix + file.read(length)


def _foreign(file: BinaryIO) -> str | None:
    """What else the file is."""
    file.seek(0)
    head = file.read(PEEK_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return "a zip file, in which torch.save keeps pickles: only safetensors weights are accepted"
    try:
        opcodes = [opcode.name for opcode, _, _ in islice(pickletools.genops(head), 2)]
    except ValueError:
        return None
    return "a pickle: only safetensors weights are accepted" if opcodes[0] == "PROTO" else None


def _check_structure(head: bytes, size: int) -> None:
    """InputError unless the library opens a file with that header. Its values do not matter, so it is given a hole."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(head)
        file.truncate(size)
        file.flush()
        try:
            with safe_open(file.name, framework="np"):
                pass
        except SafetensorError as error:
            raise InputError(f"{WEIGHTS_FILE} is cut off or broken: {str(error)[:300]}.") from error


def _tensor(name: str, entry: dict[str, Any], data_start: int) -> Tensor:
    if unknown := sorted(entry.keys() - {"dtype", "shape", "data_offsets"}):
        raise InputError(f"The header of {WEIGHTS_FILE}, tensor {name[:120]}: unknown keys {name_some(unknown)}.")
    if entry["dtype"] not in _FLOATS:
        raise InputError(f"Tensor {name[:120]} has dtype {entry['dtype'][:20]}: use F32, F16 or BF16.")
    start, end = entry["data_offsets"]
    return Tensor(name, entry["dtype"], tuple(entry["shape"]), data_start + start, data_start + end)


def scan(file: BinaryIO, tensors: list[Tensor]) -> tuple[list[str], list[str]]:
    """Read every value once; return the names of tensors with NaN or Inf, and of those that are all zero."""
    broken, zero = [], []
    for tensor in tensors:
        _, unsigned, exponent, magnitude = _FLOATS[tensor.dtype]
        finite, nonzero = True, False
        file.seek(tensor.start)
        for offset in range(tensor.start, tensor.end, CHUNK_BYTES):
            values = np.frombuffer(file.read(min(CHUNK_BYTES, tensor.end - offset)), dtype=unsigned)
            finite = finite and not bool(((values & exponent) == exponent).any())
            nonzero = nonzero or bool((values & magnitude).any())
        if not finite:
            broken.append(tensor.name)
        if not nonzero:
            zero.append(tensor.name)
    return broken, zero
