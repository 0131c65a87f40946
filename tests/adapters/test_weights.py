"""The header of the weights: every sound one is taken, whatever bytes its length has."""

from __future__ import annotations

import io
import itertools
import json
import struct
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import save

from adapters.base_shape import LANGUAGE_MODULES, BaseShape
from adapters.weights import read_header
from datasets_app.errors import InputError

WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
RANKS = (1, 4, 8, 16, 24, 32, 40, 64, 128, 256)
MODULES = (
    ("q_proj", "v_proj"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("gate_proj", "up_proj", "down_proj"),
    ("o_proj", "down_proj"),
    tuple(LANGUAGE_MODULES),
)


def qwen3_vl(hidden: int, inner: int, layers: int, heads: int) -> BaseShape:
    sizes = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    heads_of = {"num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128}
    return BaseShape.of(sizes | heads_of | {"vocab_size": 151_936, "max_position_embeddings": 262_144})


BASES = {
    "2B": qwen3_vl(2048, 6144, 28, 16),
    "4B": qwen3_vl(2560, 9728, 36, 32),
    "8B": qwen3_vl(4096, 12_288, 36, 32),
    "32B": qwen3_vl(5120, 25_600, 64, 64),
}


@dataclass(frozen=True)
class Head:
    """The first bytes of a file of `size` bytes."""

    data: bytes
    size: int

    @property
    def length(self) -> int:
        return int.from_bytes(self.data[:8], "little")


def head(shapes: dict[str, tuple[int, ...]], dtype: str) -> Head:
    """As PEFT's `save_pretrained` writes it: the tensors by their names, the length a multiple of eight."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name in sorted(shapes):
        end = place + int(np.prod(shapes[name])) * WIDTHS[dtype]
        header[name] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Head(struct.pack("<Q", len(text)) + text, 8 + len(text) + place)


def shapes_of(base: BaseShape, modules: tuple[str, ...], rank: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for layer, module in itertools.product(range(base.layers), modules):
        inputs, outputs = base.features[module]
        stem = f"base_model.model.model.language_model.layers.{layer}.{LANGUAGE_MODULES[module]}.{module}"
        found[f"{stem}.lora_A.weight"] = (rank, inputs)
        found[f"{stem}.lora_B.weight"] = (outputs, rank)
    return found


def test_our_headers_are_those_of_the_library() -> None:
    shapes = shapes_of(BASES["2B"], ("q_proj", "v_proj"), 1)
    data = save({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, {"format": "pt"})
    made = head(shapes, "F32")
    assert (made.data, made.size) == (data[: len(made.data)], len(data))


def test_the_header_of_an_8b_with_q_and_v_at_rank_32_begins_as_a_pickle_does() -> None:
    made = head(shapes_of(BASES["8B"], ("q_proj", "v_proj"), 32), "BF16")
    assert (made.length, made.data[0]) == (21_632, 0x80)


@pytest.mark.parametrize("base", BASES)
def test_every_setting_is_taken(base: str) -> None:
    """120 of the 480, four bases in all."""
    first_bytes = set()
    for modules, rank, dtype in itertools.product(MODULES, RANKS, ("F32", "BF16")):
        shapes = shapes_of(BASES[base], modules, rank)
        made = head(shapes, dtype)
        found = read_header(io.BytesIO(made.data), made.size)
        assert {tensor.name: tensor.shape for tensor in found} == shapes
        assert found[-1].end == made.size
        first_bytes.add(made.data[0])
    assert len(first_bytes) > 10


@pytest.mark.parametrize("length", [0x80, 0x480, 0x1F80, 0x5480, 0x10080, 0x4B50])
def test_a_length_whose_bytes_are_those_of_a_pickle_or_a_zip_file_is_a_length(length: int) -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(length)
    data = struct.pack("<Q", length) + text + bytes(4)
    (tensor,) = read_header(io.BytesIO(data), len(data))
    assert (tensor.name, tensor.start, tensor.end) == ("a", 8 + length, len(data))


def test_nothing_is_read_but_the_header() -> None:
    made = head({"a": (2**20, 2**10)}, "F32")
    assert read_header(io.BytesIO(made.data), made.size)[0].end == made.size == len(made.data) + 2**32


@pytest.mark.parametrize("data", [b"\x80\x02.", b"\x80\x04K\x01.", b"PK\x03\x04"])
def test_a_short_pickle_or_zip_file_is_called_one(data: bytes) -> None:
    with pytest.raises(InputError, match="only safetensors weights are accepted"):
        read_header(io.BytesIO(data), len(data))
