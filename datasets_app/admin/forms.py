"""Form fields that the admin pages share."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from unfold.widgets import UnfoldAdminTextInputWidget

from datasets_app.errors import InputError
from datasets_app.strict_json import json_object


class JSONObjectField(forms.JSONField):
    """A JSON object, as strict as the API's; what is none is shown again as it was typed."""

    def to_python(self, value: Any) -> Any:
        """Parse what was typed."""
        if value in self.empty_values or not isinstance(value, str):
            return super().to_python(value)
        try:
            return json_object(value)
        except InputError as error:
            raise ValidationError(str(error)) from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What the form shows again."""
        try:
            return self.to_python(data)
        except ValidationError:
            return InvalidJSONInput(data)


class NamesField(forms.CharField):
    """Names with commas between them; its value is their list."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "max_length": 4096, "widget": UnfoldAdminTextInputWidget, **kwargs})

    def clean(self, value: Any) -> Any:
        """The list."""
        return [name for part in super().clean(value).split(",") if (name := part.strip())]
