"""Runs one recipe from the shell, its spec's fields as options: `python -m workers.recipes.train --help`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from tqdm import tqdm

from datasets_app.errors import InputError
from datasets_app.formats.records import parse
from workers.recipes import RECIPES
from workers.recipes.errors import RecipeError
from workers.recipes.job import RecipeSpec
from workers.recipes.outputs import whole_folder

SCALARS = (str, int, float, Path)


class TerminalJob:
    """A `Job` that shows a progress bar for each step, with its metrics."""

    def __init__(self, out: Path, work: Path) -> None:
        self.out = out
        self.work = work
        self._bar: tqdm[Any] | None = None
        self._step = ""

    def progress(self, step: str, done: int, total: int, **metrics: float) -> None:
        """Move the step's bar to `done` of `total`."""
        if self._bar is None or step != self._step:
            self.close()
            self._step, self._bar = step, tqdm(total=total, desc=step, file=sys.stderr)
        self._bar.update(done - self._bar.n)
        if metrics:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in metrics.items()}, refresh=False)

    def checkpointed(self) -> None:
        """Nothing to do: the disk has it."""

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def main(recipe: str, argv: Sequence[str] | None = None) -> int:
    """Run the recipe and print its summary as JSON. Returns 0, 2 for wrong input, 1 for a job that failed."""
    module = importlib.import_module(RECIPES[recipe])
    options = vars(_parser(recipe, module.Spec, str(module.__doc__)).parse_args(argv))
    out, work = options.pop("out"), options.pop("work")
    try:
        spec = _spec(module.Spec, options.pop("spec"), options)
        with ExitStack() as stack:
            folder = stack.enter_context(whole_folder(out))
            scratch = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{recipe}-")))
            scratch.mkdir(parents=True, exist_ok=True)
            job = TerminalJob(folder, scratch)
            stack.callback(job.close)
            summary = module.run(spec, job)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RecipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(summary, indent=2))
    return 0


def _parser(recipe: str, spec: type[RecipeSpec], description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m workers.recipes.{recipe}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder for the result")
    parser.add_argument("--work", type=Path, default=None, help="folder for checkpoints; give it to resume from them")
    parser.add_argument("--spec", type=Path, default=None, help="JSON file with the fields below; options override it")
    for name, field in spec.model_fields.items():
        text = (field.description or "").replace("%", "%%") + _default(field)
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar=_metavar(field), help=text)
    return parser


def _spec(model: type[RecipeSpec], file: Path | None, options: dict[str, str]) -> RecipeSpec:
    fields = {name: _value(name, text, model.model_fields[name]) for name, text in options.items()}
    if file is not None:
        try:
            written = parse(file.read_bytes())
        except OSError as error:
            raise InputError(f"--spec: {file} cannot be read: {error.strerror}.") from error
        except InputError as error:
            raise InputError(f"--spec: {file}: {error}") from error
        if not isinstance(written, dict):
            raise InputError(f"--spec: {file} must hold one JSON object.")
        fields = written | fields
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}.") from error


def _kinds(field: FieldInfo) -> tuple[Any, ...]:
    return tuple(kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not NoneType)


def _is_nested(field: FieldInfo) -> bool:
    """Whether the field's value is JSON rather than one word."""
    return not all(kind in SCALARS or kind is bool or isinstance(kind, str) for kind in _kinds(field))


def _value(name: str, text: str, field: FieldInfo) -> Any:
    if not _is_nested(field):
        return text
    try:
        return parse(text.encode())
    except InputError as error:
        raise InputError(f"--{name.replace('_', '-')}: {error}") from error


def _metavar(field: FieldInfo) -> str:
    if _is_nested(field):
        return "JSON"
    kinds = _kinds(field)
    if all(isinstance(kind, str) for kind in kinds):
        return "|".join(kinds)
    return str(kinds[0].__name__).upper()


def _default(field: FieldInfo) -> str:
    default = field.default
    if field.is_required():
        return " (required)"
    if default is None or default == "" or default == ():
        return ""
    shown = json.dumps(default.model_dump()) if isinstance(default, RecipeSpec) else str(default)
    return f" (default: {shown})".replace("%", "%%").replace("\n", "\\n")
