"""Random adapters of both kinds, activated and plain, and stacks that mix them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from adapters.card import AdapterCard
from inference.engines.in_process.prompts import PromptBuilder
from inference.engines.types import AdapterRef, StackSpec
from tests.inference.engines.small import EXPERTS, make_adapter, make_model

PLAIN = "an"
"""The expert that is a plain LoRA."""

WORDED = "bo"
"""The activated expert that is shown other words around the user's, and other pixels, than the router."""


class Activated(NamedTuple):
    """Adapters by name: `router` and the experts are activated but for `PLAIN`; `plain-router` is not.

    In the stacks each name means another expert, so that whatever the routers answer, all kinds of them are asked.
    """

    folders: dict[str, Path]
    refs: dict[str, AdapterRef]
    base: str

    @property
    def by_digest(self) -> dict[str, Path]:
        """The adapters' folders by digest."""
        return {ref.digest: self.folders[name] for name, ref in self.refs.items()}

    @property
    def stacks(self) -> list[StackSpec]:
        """Four stacks, two of either router."""
        return [
            StackSpec(
                self.base,
                self.refs["plain-router" if by % 2 else "router"],
                tuple(AdapterRef(name, self.refs[EXPERTS[(i + by) % 4]].digest) for i, name in enumerate(EXPERTS)),
            )
            for by in (0, 1, 2, 3)
        ]


def make_activated(world: Any, root: Path) -> Activated:
    """Save them below `root` and in the world's store."""
    opening = PromptBuilder(world.processor).opening
    shared = AdapterCard(kind="expert", base=world.stack.base, min_pixels=1024, max_pixels=9216, invocation=opening)
    cards = dict.fromkeys(EXPERTS, shared)
    cards[PLAIN] = shared.model_copy(update={"invocation": ()})
    cards[WORDED] = shared.model_copy(update={"system": "You click.", "max_pixels": 4096})
    cards["router"] = shared.model_copy(update={"kind": "router", "labels": (*EXPERTS, "none")})
    cards["plain-router"] = cards["router"].model_copy(update={"invocation": ()})
    folders, refs = {}, {}
    for name, card in cards.items():
        tokens = {"alora_invocation_tokens": list(card.invocation) or None, "task_type": "CAUSAL_LM"}
        folders[name] = make_adapter(lambda: make_model(world.processor), root / f"{name}-5", card, **tokens)
        refs[name] = AdapterRef(name, world.store.add(folders[name]).digest)
    return Activated(folders, refs, world.stack.base)
