"""Cards with more text than the base attends to: refused at the load, before the model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.card import AdapterCard
from adapters.store import Store
from datasets_app.errors import InputError
from inference.engines.in_process import InProcessEngine, proof
from inference.engines.types import AdapterRef
from tests.inference.engines.small import make_adapter, make_model

CONTEXT = 4096
HUMAN = "<image>\n{prompt}"


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"human": HUMAN.ljust(50_000, "x")}, "field 'human': the card's texts have 50010 characters"),
        ({"human": HUMAN.ljust(900_000, "x")}, "field 'human': the card's texts have 900010 characters"),
        ({"system": "x" * 50_000}, "field 'system': the card's texts have"),
        ({"system": "x" * 4_070}, "The card's texts and a screenshot of max_pixels take 4[0-9]* tokens"),
        ({"human": HUMAN + "ä" * 2_040}, "The card's texts and a screenshot of max_pixels take 4[0-9]* tokens"),
    ],
    ids=["human of 50,000", "human of 900,000", "system of 50,000", "tokens", "letters of two tokens each"],
)
def test_an_adapter_is_not_loaded_with_more_text_than_the_context(
    world: Any,
    engine: InProcessEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    texts: dict[str, str],
    reason: str,
) -> None:
    card = AdapterCard.read(world.folders["bo"]).model_copy(update=texts)
    folder = make_adapter(lambda: make_model(world.processor), tmp_path / "long", card)
    expert = AdapterRef("bo", Store(world.store.root).add(folder).digest)
    monkeypatch.setattr(proof, "prefill", lambda *_: pytest.fail("the model was asked"))
    with pytest.raises(InputError, match=f"Adapter 'bo': .*{reason}"):
        engine.load_model(expert)


def test_no_pass_reads_more_than_the_context(engine: InProcessEngine, world: Any) -> None:
    runner = engine._runner
    with pytest.raises(InputError, match=f"more than the base's context of {CONTEXT} holds"):
        runner.collate([[1] * (CONTEXT + 1)], [])
