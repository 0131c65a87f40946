"""The arguments of periodic tasks, as the signatures of their functions declare them."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any, get_type_hints

from celery import current_app
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from datasets_app.errors import InputError

NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def bind(task: str, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, with defaults. InputError names the field and the first argument that the task does not
    take, or the task if there is none of the name."""
    if task not in current_app.tasks:
        current_app.loader.import_default_modules()
    if task not in current_app.tasks:
        raise InputError(f"task: there is none of the name {task!r}.")
    declared = _declared(current_app.tasks[task].run)
    names = list(declared.model_fields)
    if len(args) > len(names):
        raise InputError(f"args: {task} takes {len(names)} arguments at most.")
    given = dict(zip(names, args, strict=False))
    if twice := sorted(set(given) & set(kwargs)):
        raise InputError(f"kwargs: {twice[0]} is among args already.")
    if unknown := sorted(set(kwargs) - set(names)):
        takes = ", ".join(names) or "no arguments"
        raise InputError(f"kwargs: {task} takes no {unknown[0]!r}; it takes {takes}.")
    try:
        return declared.model_validate(given | kwargs).model_dump()
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        field = "args" if name in given else "kwargs"
        raise InputError(f"{field}: {name}: {error.errors()[0]['msg']}.") from error


def _declared(function: Any) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is Parameter.empty else parameter.default)
        for name, parameter in signature(function).parameters.items()
        if parameter.kind in NAMED
    }
    return create_model("Arguments", __config__=ConfigDict(strict=True), **fields)
