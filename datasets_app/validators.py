"""Model field validators."""

from __future__ import annotations

from django.core.exceptions import ValidationError

from datasets_app.errors import InputError
from datasets_app.names import check_name


def validate_name(value: str) -> None:
    """`check_name` as a model field validator."""
    try:
        check_name(value)
    except InputError as error:
        raise ValidationError(str(error)) from error
