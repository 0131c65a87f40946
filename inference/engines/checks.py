"""What every engine checks before it begins."""

from __future__ import annotations

from collections.abc import Collection

from adapters.card import AdapterCard
from adapters.weights import name_some
from datasets_app.errors import InputError
from datasets_app.formats.conversation import check_prompt
from inference.engines.types import AdapterRef, Request, StackSpec

NONE_LABEL = "none"
"""The label by which a router says that no expert is meant."""

MAX_TOKENS = 4096


def check_words(words: str) -> None:
    """InputError if the user's words are too long or hold a lone surrogate, which no encoding has."""
    check_prompt(words)
    try:
        words.encode()
    except UnicodeEncodeError as error:
        raise InputError("The prompt is not valid Unicode: it holds a lone surrogate.") from error


def check_request(request: Request) -> None:
    """InputError for wrong words, or a wrong limit of tokens."""
    check_words(request.prompt)
    if type(request.max_tokens) is not int or not 1 <= request.max_tokens <= MAX_TOKENS:
        raise InputError(f"max_tokens must be a whole number from 1 to {MAX_TOKENS}.")


def check_stack(stack: StackSpec, bases: Collection[str]) -> None:
    """InputError unless the stack belongs to one of `bases`, those of the engine, and its experts can be told apart."""
    if stack.base not in bases:
        held = ", ".join(sorted(base[:80] for base in bases))
        raise InputError(f"The stack belongs to base {stack.base[:80]}, this engine holds {held}.")
    names = [expert.name for expert in stack.experts]
    if len(set(names)) != len(names) or NONE_LABEL in names:
        raise InputError(f"Experts of a stack need names of their own, other than {NONE_LABEL!r}.")


def check_kind(adapter: AdapterRef, card: AdapterCard, kind: str) -> None:
    """InputError unless the card says that the adapter is a `kind`."""
    if card.kind != kind:
        raise InputError(f"The adapter {adapter.name} is no {kind}: its card says {card.kind}.")


def check_labels(stack: StackSpec, router: AdapterCard) -> None:
    """InputError if the router may name an expert that is not in the stack."""
    unknown = sorted(set(router.labels) - {*(expert.name for expert in stack.experts), NONE_LABEL})
    if unknown:
        raise InputError(f"The router may answer {name_some(unknown)}: no expert of the stack.")
