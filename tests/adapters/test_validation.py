"""Hostile and broken adapters are refused with a sentence that names what is wrong."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.numpy import save

from adapters.base_shape import BaseShape
from adapters.card import AdapterCard
from adapters.validation import validate_adapter
from datasets_app.errors import InputError

BASE = "sha256:" + "b" * 64
SHAPE = BaseShape.of(
    {
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "num_hidden_layers": 2,
        "vocab_size": 100,
        "max_position_embeddings": 500,
    }
)
CARD = AdapterCard(kind="expert", base=BASE, min_pixels=1024, max_pixels=4096)
PREFIX = "base_model.model.model.language_model.layers"


def tensors(rank: int = 2, dtype: Any = np.float32) -> dict[str, Any]:
    """A LoRA on q_proj and down_proj of both layers."""
    made = {}
    for layer in range(2):
        for module, (inside, outside) in {"self_attn.q_proj": (8, 8), "mlp.down_proj": (12, 8)}.items():
            made[f"{PREFIX}.{layer}.{module}.lora_A.weight"] = np.full((rank, inside), 0.5, dtype)
            made[f"{PREFIX}.{layer}.{module}.lora_B.weight"] = np.full((outside, rank), 0.5, dtype)
    return made


def config(**changes: Any) -> dict[str, Any]:
    base = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "down_proj"], "bias": "none"}
    return base | changes


@pytest.fixture
def adapter(tmp_path: Path) -> Callable[..., Path]:
    """Writes an adapter, whole unless its parts are replaced."""

    def write(
        weights: bytes | None = None, settings: dict[str, Any] | str | None = None, card: AdapterCard = CARD
    ) -> Path:
        (tmp_path / "adapter_model.safetensors").write_bytes(save(tensors()) if weights is None else weights)
        text = settings if isinstance(settings, str) else json.dumps(config() if settings is None else settings)
        (tmp_path / "adapter_config.json").write_text(text)
        card.write(tmp_path)
        return tmp_path

    return write


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file from its parts."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}


def test_a_sound_adapter_tells_its_facts(adapter: Callable[..., Path]) -> None:
    facts = validate_adapter(adapter(), SHAPE, BASE)
    assert (facts.rank, facts.alpha, facts.rslora, facts.layers, facts.tensors) == (2, 4.0, False, 2, 8)
    assert (facts.target_modules, facts.dtype) == (("down_proj", "q_proj"), "F32")
    assert validate_adapter(adapter(), None) == facts
    assert validate_adapter(adapter(settings=config(target_modules=r".*\.(q|down)_proj")), SHAPE) == facts


def test_the_final_folder_is_found(adapter: Callable[..., Path], tmp_path: Path) -> None:
    folder = adapter()
    final = tmp_path / "final"
    final.mkdir()
    for file in folder.glob("*.*"):
        file.rename(final / file.name)
    assert validate_adapter(folder, SHAPE).rank == 2


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (b"", "header length"),
        (b"\x00" * 8, "header length"),
        (raw({}, length=2**63), "header length"),
        (raw({}, length=10_000), "header length"),
        (raw(b" " * (5 * 2**20)), "header length"),
        (raw({}), "between 1 and"),
        (raw({str(i): entry(0, 0) for i in range(20_001)}), "between 1 and"),
        (raw({"a": entry(0, 4), "b": entry(2, 6)}, b"\0" * 6), "cut off or broken.*`b`"),
        (raw({"a": entry(0, 4), "b": entry(8, 12)}, b"\0" * 12), "cut off or broken.*`b`"),
        (raw({"a": entry(4, 8)}, b"\0" * 8), "cut off or broken.*`a`"),
        (raw({"a": entry(0, 4)}, b"\0" * 9), "cut off or broken.*not fully covered"),
        (raw({"a": entry(0, 400)}, b"\0" * 4), "cut off or broken.*not fully covered"),
        (raw({"a": entry(0, 4, [1], "I32")}, b"\0" * 4), "dtype I32"),
        (raw({"a": entry(0, 4, [2])}, b"\0" * 4), "cut off or broken"),
        (raw({"a": entry(0, 4, [-1, -1])}, b"\0" * 4), "cut off or broken"),
        (raw({"a": entry(0, 4, [True])}, b"\0" * 4), "cut off or broken"),
        (raw({"a": entry(0, 4, [1.0])}, b"\0" * 4), "cut off or broken"),
        (raw({"a": {"dtype": "F32"}}), "cut off or broken"),
        (raw({"a": 1}), "cut off or broken"),
        (raw([1, 2]), "JSON object"),
        (raw(b'{"a":1,"a":1}'), "key 'a' occurs twice"),
        (raw({"a": entry(0, 4) | {"x": 1}}, b"\0" * 4), "unknown keys x"),
        (raw(b'{"a":NaN}'), "nan, which is not a finite"),
        (raw(b"[" * 100_000), "nested"),
        (raw(b'{"a":' + b"1" * 10_000 + b"}"), "not valid JSON"),
        (raw(b"\xff\xfe{}"), "save it as UTF-8"),
        (pickle.dumps({"a": 1}), "pickle"),
        (b"PK\x03\x04" + bytes(50), "a zip file"),
        (pickle.dumps({"a": 1}, protocol=2), "a pickle"),
    ],
)
def test_malformed_weights(adapter: Callable[..., Path], weights: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        validate_adapter(adapter(weights), SHAPE)


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda found: [found.pop(key) for key in list(found) if name in key] and None


def replaced(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda found: found.update({next(key for key in found if name in key): value})


def added(name: str, shape: tuple[int, ...]) -> Callable[[dict[str, Any]], None]:
    return lambda found: found.update({name: np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("0.mlp.down_proj.lora_B"), "pairs.*layers.0.mlp.down_proj.lora_A"),
        (without("0.mlp"), r"alike.*layers\.0\.down_proj"),
        (without("down_proj"), "'target_modules' is unlike the tensors: down_proj"),
        (replaced("q_proj.lora_A", np.ones((3, 8), np.float32)), "'r' is 2.*q_proj.lora_A"),
        (replaced("q_proj.lora_A", np.ones((2, 9), np.float32)), "Sizes.*q_proj"),
        (replaced("q_proj.lora_B", np.ones((9, 2), np.float32)), "Sizes.*q_proj"),
        (replaced("q_proj.lora_A", np.ones(16, np.float32)), "'r' is 2"),
        (replaced("q_proj.lora_A", np.ones((2, 8), np.float16)), "mixes dtypes"),
        (replaced("q_proj.lora_A", np.full((2, 8), np.nan, np.float32)), "NaN or Inf.*q_proj.lora_A"),
        (replaced("q_proj.lora_B", np.full((8, 2), -np.inf, np.float32)), "NaN or Inf.*q_proj.lora_B"),
        (lambda found: found.update({k: v * 0 for k, v in found.items() if "lora_B" in k}), "every lora_B is zero"),
        (added("base_model.model.model.visual.blocks.0.attn.qkv.lora_A.weight", (2, 8)), "Only language layers"),
        (added("base_model.model.lm_head.lora_A.weight", (2, 8)), "no LoRA of a language layer.*lm_head"),
        (added(f"{PREFIX}.0.self_attn.down_proj.lora_A.weight", (2, 8)), "no LoRA of a language layer"),
        (added(f"{PREFIX}.٣.self_attn.q_proj.lora_A.weight", (2, 8)), "no LoRA of a language layer"),
        (
            lambda found: found.update({k.replace(".1.", ".2."): v for k, v in found.items() if ".1." in k}),
            "2 language layers",
        ),
    ],
)
def test_tensors_that_do_not_fit(
    adapter: Callable[..., Path], change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    found = tensors()
    change(found)
    with pytest.raises(InputError, match=reason):
        validate_adapter(adapter(save(found)), SHAPE)


def test_no_more_than_five_tensors_are_named(adapter: Callable[..., Path]) -> None:
    found = tensors() | {f"x{i}" * 200: np.ones(1, np.float32) for i in range(9)}
    with pytest.raises(InputError, match="and 4 more") as refused:
        validate_adapter(adapter(save(found)), SHAPE)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_precision_is_scanned_too(adapter: Callable[..., Path], dtype: Any) -> None:
    assert validate_adapter(adapter(save(tensors(dtype=dtype))), SHAPE).dtype in ("F16", "F32")
    found = tensors(dtype=dtype)
    next(iter(found.values()))[1, 3] = np.inf
    with pytest.raises(InputError, match="NaN or Inf"):
        validate_adapter(adapter(save(found)), SHAPE)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (config(peft_type="IA3"), "peft_type"),
        *[(config(r=rank), "'r'") for rank in (-1, 0, 10**6, True, 2.0, "2", None)],
        (config(r=4), "'r' is 4"),
        *[(config(lora_alpha=alpha), "lora_alpha") for alpha in (0, -1, "4", None, 10**400)],
        (config(target_modules=["q_proj", "qkv"]), "target_modules.*qkv"),
        (config(target_modules=[]), "target_modules"),
        (config(target_modules=[1]), "target_modules"),
        (config(target_modules="x" * 5000), "target_modules"),
        (config(auto_map={"x": "evil.py"}), "auto_map"),
        (config(trust_remote_code=True), "trust_remote_code"),
        (config(use_dora=True), "use_dora"),
        (config(modules_to_save=["lm_head"]), "modules_to_save"),
        (config(bias="all"), "bias"),
        (config(rank_pattern={"q_proj": 4}), "rank_pattern"),
        *[
            (config(init_lora_weights=init), "'init_lora_weights'.*path_initial_model_for_weight_conversion")
            for init in ("pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga", "new", ["pissa"], {})
        ],
        *[
            (config(**{variant: {"nblocks": 2}}), f"'{variant}': is not supported")
            for variant in ("arrow_config", "kasa_config", "monteclora_config", "use_bdlora")
        ],
        *[
            (config(alora_invocation_tokens=tokens), "alora_invocation_tokens")
            for tokens in ([], [-1], [100], [True], [1.0], ["1"], [[1]], [1] * 65, 1, "1", {}, False, [10**400])
        ],
        ('{"r": 2, "r": 2}', "key 'r' occurs twice"),
        ("[]", "JSON object"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested"),
        ('{"a": "' + "x" * 2**20 + '"}', "larger than"),
    ],
)
def test_wrong_configuration(adapter: Callable[..., Path], settings: Any, field: str) -> None:
    with pytest.raises(InputError, match=field):
        validate_adapter(adapter(settings=settings), SHAPE)


@pytest.mark.parametrize("init", [None, True, False, "gaussian", "orthogonal", "eva", "mica"])
def test_beginnings_that_leave_the_base_as_it_is(adapter: Callable[..., Path], init: Any) -> None:
    assert validate_adapter(adapter(settings=config(init_lora_weights=init)), SHAPE).rank == 2


def test_an_activated_adapter_says_so_in_card_and_configuration(adapter: Callable[..., Path]) -> None:
    activated, settings = CARD.model_copy(update={"invocation": (7, 99)}), config(alora_invocation_tokens=[7, 99])
    assert validate_adapter(adapter(settings=settings, card=activated), SHAPE).invocation == (7, 99)
    assert validate_adapter(adapter(settings=config(alora_invocation_tokens=None)), SHAPE).invocation == ()
    for card, other in ((CARD, settings), (activated, config()), (activated, config(alora_invocation_tokens=[7, 98]))):
        with pytest.raises(InputError, match=r"'invocation' is \[.*unlike .*'alora_invocation_tokens'"):
            validate_adapter(adapter(settings=other, card=card), SHAPE)


@pytest.mark.parametrize("tokens", [[1.5], [True], ["7"], 7, None])
def test_a_card_with_a_wrong_invocation_is_refused(adapter: Callable[..., Path], tokens: Any) -> None:
    folder = adapter()
    card = json.loads((folder / "switchyard.json").read_text()) | {"invocation": tokens}
    (folder / "switchyard.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="invocation"):
        validate_adapter(folder, SHAPE)


def test_a_pattern_is_never_run(adapter: Callable[..., Path]) -> None:
    assert validate_adapter(adapter(settings=config(target_modules="(a+)+$" * 50)), SHAPE).rank == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base": "sha256:other"}, "another base model"),
        ({"human": "{prompt}"}, "'human'"),
        ({"human": "<image><image>"}, "'human'"),
        ({"max_pixels": 2**40}, "max_pixels"),
        ({"min_pixels": 5000}, "max_pixels"),
        ({"labels": ("a",)}, "'labels'"),
        ({"kind": "router"}, "'labels'"),
        ({"kind": "router", "labels": ("a", "a")}, "'labels'"),
    ],
)
def test_wrong_card(adapter: Callable[..., Path], changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        validate_adapter(adapter(card=CARD.model_copy(update=changes)), SHAPE, BASE)


def test_missing_files(adapter: Callable[..., Path]) -> None:
    folder = adapter()
    (folder / "switchyard.json").unlink()
    with pytest.raises(InputError, match="card"):
        validate_adapter(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match="pickle"):
        validate_adapter(folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(InputError, match="missing"):
        validate_adapter(folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=r"adapter_config\.json is missing"):
        validate_adapter(folder)


def test_the_base_is_read_from_its_config(tmp_path: Path) -> None:
    text = {
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "vocab_size": 100,
        "max_position_embeddings": 500,
    }
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text | {"num_hidden_layers": 2}}))
    assert BaseShape.read(tmp_path) == SHAPE
    assert SHAPE.features["k_proj"] == (8, 4)
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text}))
    with pytest.raises(InputError, match="num_hidden_layers"):
        BaseShape.read(tmp_path)


SOUND = save(tensors())


@examples(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_is_accepted_or_refused_never_a_crash(data: st.DataObject, tmp_path_factory: Any) -> None:
    weights = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        weights[data.draw(st.integers(0, len(weights) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(weights)))
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(bytes(weights[:cut] if data.draw(st.booleans()) else weights))
    (folder / "adapter_config.json").write_text(json.dumps(config()))
    CARD.write(folder)
    try:
        validate_adapter(folder, SHAPE)
    except InputError as error:
        assert str(error).endswith(".")


def test_light_modules_stay_light() -> None:
    modules = [
        "adapters.card",
        "adapters.store",
        "adapters.validation",
        "datasets_app.formats.pictures",
        "inference.engines.remote",
        "inference.engines.types",
        "inference.routing.trie",
        "inference.server.app",
    ]
    heavy = {"torch", "transformers", "peft", "django"}
    code = f"import sys, {', '.join(modules)}; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
