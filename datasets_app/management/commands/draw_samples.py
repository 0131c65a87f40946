"""`draw_samples [KIND ...]`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from tqdm import tqdm

from datasets_app.errors import InputError
from datasets_app.management.base import InputCommand
from datasets_app.samples.kinds import KINDS
from datasets_app.samples.source import SampleError, write_source
from datasets_app.services import register_source


class Command(InputCommand):
    """Draw sample screens."""

    help = "Draw sample screens of each kind and register them as source datasets. What was drawn before is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which kinds, how many, and the seed."""
        parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)")
        parser.add_argument("--count", type=int, default=1500, help="screens of each kind (default: %(default)s)")
        parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same (default: %(default)s)")
        parser.add_argument("--variant", help="names become KIND-VARIANT, as calendar-unseen")

    def handle(self, *args: Any, **options: Any) -> None:
        """Draw and register, kind by kind."""
        for kind in options["kinds"] or KINDS:
            name = f"{kind}-{options['variant']}" if options["variant"] else kind
            folder = Path(settings.DATA_ROOT) / "samples" / name
            if not folder.exists():
                self._draw(kind, folder, options["count"], options["seed"])
            source = register_source(name, folder)
            self.say(f"{source.name}: {source.rows} rows in {source.path}")

    def _draw(self, kind: str, folder: Path, count: int, seed: int) -> None:
        with tqdm(total=count, desc=folder.name, file=sys.stderr, disable=None) as bar:
            try:
                write_source(kind, folder, count, seed, partial(_advance, bar))
            except SampleError as error:
                raise InputError(str(error)) from error


def _advance(bar: tqdm[Any], done: int, total: int) -> None:
    bar.update(done - bar.n)
