"""`replay RECEIPT.json --image FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from datasets_app.errors import InputError
from datasets_app.management.base import InputCommand
from inference.engines import wire
from inference.engines.base import EngineError
from inference.replaying import replay


class Command(InputCommand):
    """Ask again what a receipt says was asked."""

    help = "Ask the versions of a receipt again, and say whether the answer is the same. Exit code 1 if it is not."

    def add_arguments(self, parser: CommandParser) -> None:
        """RECEIPT --image FILE."""
        parser.add_argument("receipt", type=Path, help="the answer of /api/v1/infer/ or /route/, or its receipt alone")
        parser.add_argument("--image", type=Path, required=True, help="the screenshot that was asked about")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        receipt = wire.load_receipt(_read(options["receipt"]))
        try:
            again = replay(receipt, _read(options["image"]))
        except EngineError as error:
            raise CommandError(str(error)) from error
        self.say(again.label if again.text is None else f"{again.label}: {again.text}")
        for difference in again.differences:
            self.say(f"differs: {difference}")
        if not again.same:
            raise CommandError("The answer is not the same.", returncode=1)
        self.say("The answer is the same.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
