"""A form that a service refuses: it is shown again as it was filled in, with the reason at its field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.forms import BaseForm
from django.http import HttpRequest

from datasets_app.errors import InputError

_REFUSAL = "_switchyard_refusal"
_NAMED = re.compile(r"(\w+)(?:\.\w+)*: (.+)", re.DOTALL)
MIN_BARE = 6  # characters of what was typed that tell a field where the sentence does not quote them


def refuse(request: HttpRequest, error: InputError) -> None:
    """The forms of this request are to show `error`."""
    setattr(request, _REFUSAL, error)


def showing_refusal(request: HttpRequest, form: Any, fields: Mapping[str, str]) -> Any:
    """The form class, which shows the refusal of the request if there is one."""
    error: InputError | None = getattr(request, _REFUSAL, None)
    if error is None:
        return form

    class Refused(form):  # type: ignore[misc]
        def full_clean(self) -> None:
            super().full_clean()
            if self.is_bound:
                self.add_error(*place(self, str(error), fields))

    return Refused


def place(form: BaseForm, sentence: str, fields: Mapping[str, str]) -> tuple[str | None, str]:
    """The field that the sentence is about, None if it is about the whole, and what to say there.

    A sentence names a field in front, as the form or the service does, or quotes what was typed into it. `fields` are
    the form's by the service's names; that of "" takes what names none.
    """
    if named := _NAMED.fullmatch(sentence):
        field = fields.get(named[1], named[1])
        if field in form.fields:
            return field, named[2][:1].upper() + named[2][1:]
    typed = {name: str(form.data.get(form.add_prefix(name), "")) for name in form.fields}
    quoted = [name for name, text in typed.items() if text and _mentions(sentence, text)]
    if quoted:
        return max(quoted, key=lambda name: len(typed[name])), sentence
    default = fields.get("")
    return default if default in form.fields else None, sentence


def _mentions(sentence: str, text: str) -> bool:
    return repr(text) in sentence or (len(text) >= MIN_BARE and text in sentence)
