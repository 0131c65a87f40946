"""Asking again what a receipt says was asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from adapters.models import Stack
from adapters.selectors import spec_of
from datasets_app.errors import InputError
from inference.engines.types import Receipt, Request, content_digest
from inference.services import get_engine


@dataclass(frozen=True)
class Replay:
    """`label` and `text` are what came this time; `differences` the fields in which the receipts differ."""

    label: str
    text: str | None
    same: bool
    differences: tuple[str, ...]


def replay(receipt: Receipt, image: bytes) -> Replay:
    """Deploy the receipt's stack, whichever serves, ask it again, and compare; what serves goes on.

    InputError if the image is another one, or the stack is not known here or cannot be loaded.
    """
    if content_digest(image) != receipt.image:
        raise InputError("The image is not the one that the receipt is for.")
    if receipt.label is None:
        raise InputError("The receipt is of an adapter that was asked by itself, without a stack.")
    stack = Stack.objects.select_related("router__adapter__base").filter(digest=receipt.stack).first()
    if stack is None:
        raise InputError(f"The stack {receipt.stack[:80]} of the receipt is not known here.")
    engine = get_engine()
    engine.deploy(spec_of(stack))
    request = Request(stack.digest, image, receipt.prompt, receipt.max_tokens)
    if receipt.answer is None:
        decision = engine.route(request)
        again, label, text = decision.receipt, decision.label, None
    else:
        result = engine.infer(request)
        again, label, text = result.receipt, result.decision.label, result.text
    if again is None:
        raise InputError("This engine writes no receipts: ask one that does.")
    same = (again.label, again.answer) == (receipt.label, receipt.answer)
    return Replay(label, text, same, tuple(_differences(asdict(receipt), asdict(again))))


def _differences(was: dict[str, Any], now: dict[str, Any], within: str = "") -> Iterator[str]:
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{within}{name}.")
        elif before != after:
            yield f"{within}{name} was {before}, is {after}"
