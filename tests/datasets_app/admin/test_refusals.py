"""Which field a refusal is about."""

from __future__ import annotations

import pytest
from django import forms

from datasets_app.admin.refusals import place


class Form(forms.Form):
    name = forms.CharField()
    source = forms.CharField()
    files = forms.CharField()


TYPED = {"name": "calendar", "source": "/data/calendar", "files": "/loras/calendar"}


@pytest.mark.parametrize(
    ("sentence", "field", "said"),
    [
        ("source: an expert needs one.", "source", "An expert needs one."),
        ("source.rows: there are none.", "source", "There are none."),
        ("adapter: it is missing.", "files", "It is missing."),
        ("Adapter 'calendar' is a router.", "name", "Adapter 'calendar' is a router."),
        ("/loras/calendar is no folder.", "files", "/loras/calendar is no folder."),
        ("'/data/calendar' is no folder.", "source", "'/data/calendar' is no folder."),
        ("The calendar is full.", "name", "The calendar is full."),
        ("Nothing serves yet: add an expert.", None, "Nothing serves yet: add an expert."),
        ("data.jsonl, line 2: no image.", None, "data.jsonl, line 2: no image."),
    ],
)
def test_a_refusal_stands_at_the_field_that_it_names_or_quotes(sentence: str, field: str | None, said: str) -> None:
    assert place(Form(TYPED), sentence, {"adapter": "files"}) == (field, said)


def test_what_names_no_field_stands_where_the_page_wants_it() -> None:
    assert place(Form(TYPED), "line 2: no image.", {"": "source"}) == ("source", "line 2: no image.")
    assert place(Form(TYPED), "line 2: no image.", {"": "else"}) == (None, "line 2: no image.")
