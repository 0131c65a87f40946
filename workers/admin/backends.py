"""Where a job is to run, as the forms that launch one ask for it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from unfold.widgets import UnfoldAdminSelectWidget


def _choices() -> list[tuple[str, str]]:
    return [("", f"the default ({settings.COMPUTE_DEFAULT})"), *((name, name) for name in settings.COMPUTE)]


class BackendField(forms.ChoiceField):
    """A compute backend; "" is the default one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=_choices, required=False, widget=UnfoldAdminSelectWidget, **kwargs)
