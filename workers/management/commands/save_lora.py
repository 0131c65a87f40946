"""`save_lora NAME [PATH] [--to VOLUME:PATH]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from adapters.models import Adapter, AdapterVersion
from adapters.selectors import get_adapter
from adapters.services import import_adapter, store
from datasets_app.errors import InputError
from datasets_app.places import Place, is_place
from datasets_app.selectors import get_source
from workers.management.cards import add_card, read_card
from workers.management.following import FollowCommand
from workers.management.loras import DEFAULT_FILE, read
from workers.models import Run
from workers.recipes.errors import RecipeError
from workers.services import launch


class Command(FollowCommand):
    """Store adapter files, here and on a volume."""

    help = (
        "Register an adapter and store the files in PATH (or its final/) as its next version; without PATH, take its "
        "current version. With --to, upload that to a volume of Modal's."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME, PATH, kind and source; where to upload; whether to wait where a run fetches it."""
        super().add_arguments(parser)
        parser.add_argument("name", help="name of the adapter: the label that a router may answer")
        parser.add_argument(
            "path", nargs="?", help="folder with adapter_config.json and adapter_model.safetensors, or volume:path"
        )
        parser.add_argument("--kind", choices=Adapter.Kind.values, default=Adapter.Kind.EXPERT.value)
        parser.add_argument("--source", help="source dataset that routing examples are drawn from")
        add_card(parser)
        parser.add_argument(
            "--to",
            nargs="?",
            const="",
            metavar="VOLUME:PATH",
            help=f"upload the version to a volume (default: where {DEFAULT_FILE} says that the adapter lies)",
        )
        parser.add_argument("--replace", action="store_true", help="upload it in the place of unknown files")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the services."""
        place = _target(options["name"], options["to"]) if options["to"] is not None else None
        if place is not None and options["detach"]:
            raise InputError("--to needs the files here first: leave --detach out.")
        version = self._version(options)
        if version is None:
            return
        self.say(f"{version}: {version.digest}")
        self.caution(version)
        if place is None:
            return
        from workers.remote.publish import publish

        try:
            sent = publish(
                store().path(version.digest),
                place,
                settings.COMPUTE["modal"]["OPTIONS"]["environment"],
                is_known=lambda digest: AdapterVersion.objects.filter(digest=digest).exists(),
                replace=options["replace"],
            )
        except RecipeError as error:
            raise CommandError(str(error), returncode=1) from error
        self.say(f"{place}: {'uploaded ' + ', '.join(sent) if sent else 'was there already'}")

    def _version(self, options: dict[str, Any]) -> AdapterVersion | None:
        """None if a run fetches it, which nobody waits for."""
        name, path, card = options["name"], options["path"], read_card(options["card"])
        if path is None and card is not None:
            raise InputError("--card is that of new files: give their PATH.")
        if path is None:
            current = get_adapter(name).current
            if current is None:
                raise InputError(f"Adapter {name!r} has no version yet: give the PATH of its files.")
            return current
        source = get_source(options["source"]) if options["source"] else None
        if not is_place(path):
            return import_adapter(name, path, kind=options["kind"], source=source, card=card)
        kept = {key: options[key] for key in ("kind", "source")}
        wish = {"what": "adapter", "name": name, "place": path, "card": card, **kept}
        run = self.follow_run(launch(Run.Kind.FETCH, wish), detach=options["detach"])
        return run.adapter_version if run is not None else None


def _target(name: str, word: str) -> Place:
    """Where the version goes."""
    if word:
        return Place.parse(word)
    entries = read(Path(DEFAULT_FILE)).loras
    if name not in entries:
        raise InputError(f"{DEFAULT_FILE} does not name {name!r}: say --to VOLUME:PATH.")
    return entries[name].place()
