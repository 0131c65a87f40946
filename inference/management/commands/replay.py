"""`replay RECEIPT.json --image FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from datasets_app.formats.pictures import MAX_BYTES
from datasets_app.management.base import InputCommand
from datasets_app.paths import read_file
from inference.engines import wire
from inference.engines.base import EngineError
from inference.replaying import replay

MAX_RECEIPT = 2**20


class Command(InputCommand):
    """Ask again what a receipt says was asked."""

    help = "Ask the versions of a receipt again, and say whether the answer is the same. Exit code 1 if it is not."

    def add_arguments(self, parser: CommandParser) -> None:
        """RECEIPT --image FILE."""
        parser.add_argument("receipt", type=Path, help="the answer of /api/v1/infer/ or /route/, or its receipt alone")
        parser.add_argument("--image", type=Path, required=True, help="the screenshot that was asked about")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        receipt = wire.load_receipt(read_file(options["receipt"], "The receipt", MAX_RECEIPT))
        try:
            again = replay(receipt, read_file(options["image"], "The image", MAX_BYTES))
        except EngineError as error:
            raise CommandError(str(error)) from error
        self.say(again.label if again.text is None else f"{again.label}: {again.text}")
        for difference in again.differences:
            self.say(f"differs: {difference}")
        if not again.same:
            raise CommandError("The answer is not the same.", returncode=1)
        self.say("The answer is the same.")
