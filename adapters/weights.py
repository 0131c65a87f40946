"""Reading safetensors by hand: the header with caps of our own, and a scan of the values.

The format (https://huggingface.co/docs/safetensors): eight bytes, the header's length as a little-endian u64;
the header, a JSON object of name → dtype, shape, data_offsets; then the values, back to back. Libraries take
several malformed files and allocate before they check, so nothing here calls one.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from datasets_app.errors import InputError

MAX_HEADER_BYTES = 4 * 2**20  # 504 LoRA tensors of an 8B base take 75 kB
MAX_TENSORS = 20_000
CHUNK_BYTES = 4 * 2**20

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


def load_json_object(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object strictly: UTF-8, no duplicate keys, no NaN; InputError naming `what` otherwise."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise InputError(f"{what} has a duplicate key: {name_some(sorted({k for k, _ in pairs}))}.")
        return found

    def refuse(constant: str) -> None:
        raise InputError(f"{what} holds {constant}, which JSON does not have.")

    try:
        value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=refuse)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not valid JSON in UTF-8.") from error
    if not isinstance(value, dict):
        raise InputError(f"{what} must hold a JSON object.")
    return value


def read_header(file: BinaryIO, size: int) -> list[Tensor]:
    """Return the tensors of a safetensors `file` of `size` bytes, in file order; InputError if malformed."""
    what = "adapter_model.safetensors"
    file.seek(0)
    prefix = file.read(8)
    if prefix[:2] == b"PK" or prefix[:1] == b"\x80":
        raise InputError(f"{what} is a pickle or zip file: only safetensors weights are accepted.")
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise InputError(f"{what} is not a safetensors file: its header length is wrong.")
    header = load_json_object(file.read(length), f"The header of {what}")
    header.pop("__metadata__", None)
    if not 0 < len(header) <= MAX_TENSORS:
        raise InputError(f"{what} must hold between 1 and {MAX_TENSORS} tensors.")
    tensors = [_tensor(name, entry, 8 + length) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    expected = 8 + length
    for tensor in tensors:
        if tensor.start != expected:
            raise InputError(f"{what} has a hole or an overlap before tensor {tensor.name[:120]}.")
        expected = tensor.end
    if expected != size:
        raise InputError(f"{what} is {size} bytes long, but its header describes {expected}.")
    return tensors


def _tensor(name: str, entry: object, data_start: int) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end], **rest} if not rest:
            if dtype not in _FLOATS:
                raise InputError(f"Tensor {name[:120]} has dtype {dtype[:20]}: use F32, F16 or BF16.")
            numbers = [start, end, *shape]
            whole = all(type(number) is int and 0 <= number < 2**48 for number in numbers)
            if whole and len(shape) <= 8 and end - start == math.prod(shape) * _FLOATS[dtype][0]:
                return Tensor(name, dtype, tuple(shape), data_start + start, data_start + end)
    raise InputError(f"Tensor {name[:120]} has a wrong header entry (dtype, shape or data_offsets).")


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
