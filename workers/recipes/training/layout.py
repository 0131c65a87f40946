"""How an activated adapter is shown a sample: alike for all, so that what the base reads of it serves all of them."""

from __future__ import annotations

from collections.abc import Iterable

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from datasets_app.formats.conversation import user_words
from workers.recipes.content import EXPERT_HUMAN


def activated_card(card: AdapterCard, words: Iterable[str], opening: tuple[int, ...]) -> AdapterCard:
    """The card of an activated adapter trained on data with this card: invoked by the tokens that begin the answer.

    It is shown the screenshot and the user's `words`, and no text of its own: what that would say is learned. Data
    in which no user says anything, a router's with one human turn for all, keep their texts; such an adapter
    works, and shares its prefix with none that is shown the words. InputError if nothing begins an answer.
    """
    if not opening:
        raise InputError("activated: the base's chat template puts no tokens before an answer, so none can invoke.")
    if "{prompt}" not in card.human and set(words) <= {user_words(card.human)}:
        return card.model_copy(update={"invocation": opening})
    return card.model_copy(update={"system": None, "human": EXPERT_HUMAN, "invocation": opening})
