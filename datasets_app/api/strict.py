"""Serializers that refuse what they do not know."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.utils.html import is_html_input


class StrictSerializer(serializers.Serializer[Any]):
    """Input in which an unknown field is an error, never ignored."""

    def to_internal_value(self, data: Any) -> Any:
        """Validate; a ValidationError names every unknown field."""
        if isinstance(data, dict):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                raise serializers.ValidationError(dict.fromkeys(unknown[:5], "This field is not known."))
        return super().to_internal_value(data)


class StrictCharField(serializers.CharField):
    """Text, and not a number taken for text."""

    def to_internal_value(self, data: Any) -> str:
        """Refuse anything but a string."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictIntegerField(serializers.IntegerField):
    """An integer, and not `true`, `1.0` or (outside forms) `"1"`."""

    def to_internal_value(self, data: Any) -> int:
        """Refuse anything but an integer, or its digits in a form."""
        form = is_html_input(self.root.initial_data) and isinstance(data, str)
        if type(data) is not int and not (form and data.isascii() and data.isdecimal()):
            self.fail("invalid")
        return super().to_internal_value(data)


class ShareField(serializers.FloatField):
    """A number between 0 and 1, neither of them, and (outside forms) not its digits in a text."""

    default_error_messages = {"share": "A number between 0 and 1, as 0.05 is for 5 points."}

    def to_internal_value(self, data: Any) -> float:
        """Refuse anything else."""
        form = is_html_input(self.root.initial_data) and isinstance(data, str)
        if isinstance(data, bool) or not (form or isinstance(data, int | float)):
            self.fail("share")
        value = super().to_internal_value(data)
        if not 0 < value < 1:
            self.fail("share")
        return value


FORM_BOOLEANS = {
    **dict.fromkeys(("true", "on", "yes", "1"), True),
    **dict.fromkeys(("false", "off", "no", "0"), False),
}
"""How clients spell them in a form, in small letters."""


class StrictBooleanField(serializers.BooleanField):
    """`true` or `false`, which a form spells out."""

    default_empty_html = serializers.empty  # A form without the field says nothing of it.

    def to_internal_value(self, data: Any) -> bool:
        """Refuse anything else that Python or HTML take for true or false."""
        if is_html_input(self.root.initial_data) and isinstance(data, str) and data.lower() in FORM_BOOLEANS:
            return FORM_BOOLEANS[data.lower()]
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


class NameField(StrictCharField):
    """A name; whether it is a valid one is for the service to say."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_length": 64, "trim_whitespace": False, **kwargs})
