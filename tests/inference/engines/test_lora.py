"""Adapter arithmetic: any mix of adapters in one batch computes as PEFT does for each alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from adapters.backbone.lora import LANGUAGE_TARGETS
from adapters.base_shape import BaseShape
from adapters.card import AdapterCard
from inference.engines.in_process.files import ReadAdapter, read_adapter
from inference.engines.in_process.lora import NO_ADAPTER, LoraSlots
from tests.inference.engines.small import make_adapter, make_model

IDS = torch.tensor([[5, 6, 7, 8, 30, 31], [9, 9, 9, 1, 2, 3], [40, 41, 42, 43, 44, 45], [7, 8, 9, 10, 11, 12]] * 2)
SHAPES: dict[str, dict[str, Any]] = {
    "rank4": {"r": 4},
    "rank8": {"r": 8, "lora_alpha": 4},
    "rank16": {"r": 16},
    "rslora": {"r": 8, "use_rslora": True, "lora_alpha": 3},
    "attention": {"r": 2, "target_modules": LANGUAGE_TARGETS.replace("mlp", "nothing")},
}


@pytest.fixture(scope="module")
def folders(world: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, card = tmp_path_factory.mktemp("shapes"), AdapterCard.read(world.folders["bo"])
    return {
        name: make_adapter(lambda: make_model(world.processor), root / name, card, **config)
        for name, config in SHAPES.items()
    }


@pytest.fixture(scope="module")
def expected(world: Any, folders: dict[str, Path]) -> dict[str, torch.Tensor]:
    """Logits of a fresh base with each adapter alone in PEFT, and of the base."""
    with torch.no_grad():
        logits = {"base": make_model(world.processor)(input_ids=IDS).logits}
        for name, folder in folders.items():
            logits[name] = PeftModel.from_pretrained(make_model(world.processor), folder).eval()(input_ids=IDS).logits
    return logits


@pytest.fixture(scope="module")
def slotted(world: Any, folders: dict[str, Path]) -> Iterator[tuple[Any, LoraSlots, dict[str, int]]]:
    """A base with all adapters in slots."""
    model = make_model(world.processor)
    slots = LoraSlots(model)
    where = {"base": NO_ADAPTER}
    for number, name in enumerate(folders, 1):
        slots.write(number, read(world, model, folders[name]).weights)
        where[name] = number
    yield model, slots, where


def read(world: Any, model: Any, folder: Path) -> ReadAdapter:
    shape = BaseShape.of(model.config.get_text_config().to_dict())
    stored = world.store.add(folder)
    return read_adapter(stored.path, stored.digest, world.stack.base, shape, model.dtype)


@pytest.mark.parametrize("name", ["base", *SHAPES])
def test_one_adapter_for_all_rows_equals_peft(slotted: Any, expected: dict[str, torch.Tensor], name: str) -> None:
    model, slots, where = slotted
    with torch.no_grad(), slots.use(slots.rows([where[name]] * len(IDS))):
        assert (model(input_ids=IDS).logits - expected[name]).abs().max() < 1e-4


def test_mixed_rows_each_equal_peft(slotted: Any, expected: dict[str, torch.Tensor]) -> None:
    """Ranks 2 to 16, scalings and missing modules side by side; also one token at a time, behind a cache."""
    model, slots, where = slotted
    names = ["rank4", "base", "rank16", "rslora", "rank8", "attention", "rank4", "rank16"]
    rows = slots.rows([where[name] for name in names])
    with torch.no_grad(), slots.use(rows):
        whole = model(input_ids=IDS).logits
        begun = model(input_ids=IDS[:, :-1], use_cache=True)
        last = model(input_ids=IDS[:, -1:], past_key_values=begun.past_key_values).logits
    for row, name in enumerate(names):
        assert (whole[row] - expected[name][row]).abs().max() < 1e-4, name
        assert (last[row, 0] - expected[name][row, -1]).abs().max() < 1e-4, name
    assert (expected["rank4"] - expected["base"]).abs().max() > 0.1


def test_outside_of_use_the_base_answers(slotted: Any, expected: dict[str, torch.Tensor]) -> None:
    model, slots, where = slotted
    with pytest.raises(ZeroDivisionError), slots.use(slots.rows([where["rank4"]])):
        raise ZeroDivisionError
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, expected["base"])


def test_a_slot_written_anew_keeps_nothing(
    world: Any, folders: dict[str, Path], expected: dict[str, torch.Tensor]
) -> None:
    """A smaller adapter after a larger one, with fewer modules; and slots that grow move nobody."""
    model = make_model(world.processor)
    slots = LoraSlots(model)
    slots.write(1, read(world, model, folders["rank16"]).weights)
    slots.write(2, read(world, model, folders["rank8"]).weights)
    slots.write(1, read(world, model, folders["attention"]).weights)
    slots.write(9, read(world, model, folders["rank4"]).weights)
    for slot, name in ((1, "attention"), (2, "rank8"), (9, "rank4")):
        with torch.no_grad(), slots.use(slots.rows([slot] * len(IDS))):
            assert (model(input_ids=IDS).logits - expected[name]).abs().max() < 1e-4


def test_one_row_s_infinity_stays_in_its_row(slotted: Any, folders: dict[str, Path]) -> None:
    model, slots, where = slotted
    good = slots.rows([where["rank4"], where["rank8"]])
    with torch.no_grad(), slots.use(good):
        before = model(input_ids=IDS[:2, :1]).logits
    huge = {
        name: (torch.full((1, module.a.shape[2]), 3e38), torch.full((module.b.shape[1], 1), 3e38))
        for name, module in slots._modules.items()
    }
    slots.write(20, huge)
    with torch.no_grad(), slots.use(slots.rows([where["rank4"], where["rank8"], 20])):
        after = model(input_ids=IDS[:3, :1]).logits
    assert not after[2].isfinite().all()
    assert (after[:2] - before).abs().max() < 1e-4
