"""What all commands share."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from datasets_app.errors import InputError

EXIT_INPUT = 2


class InputCommand(BaseCommand):
    """A thin caller of services: an InputError is exit code 2 and its one sentence on stderr."""

    requires_migrations_checks = True

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; there is no traceback for wrong input."""
        try:
            return super().execute(*args, **options)
        except InputError as error:
            raise CommandError(str(error), returncode=EXIT_INPUT) from error

    def check_migrations(self) -> None:
        """Refuse a database that is not of this release, instead of a notice and an error of the database's."""
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError(
                "The database is not up to date: start `make serve`, which sees to that, or `manage.py migrate`."
            )

    def say(self, text: str) -> None:
        """One line on stdout."""
        self.stdout.write(text)

    def note(self, text: str) -> None:
        """One line on stderr that is no error, and therefore not in red as Django would have it."""
        self.stderr.write(text, style_func=str)
