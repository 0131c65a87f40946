"""`python -m controlplane.serve`: everything on this machine, with a password for this once."""

from __future__ import annotations

import os
import secrets

import django


def main() -> None:
    """Bring the database up to date, give `admin` a new password, and become the process manager."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from controlplane.env import LOCAL
    from controlplane.processes import environment, supervisor

    settings.DATA_ROOT.mkdir(parents=True, exist_ok=True)
    call_command("migrate", verbosity=0)
    port = os.environ.get("SWITCHYARD_PORT", "8000")
    print(f"Admin:  http://127.0.0.1:{port}/admin/")
    print(f"API:    http://127.0.0.1:{port}/api/docs/")
    if LOCAL:
        password = secrets.token_urlsafe(12)
        user, _ = get_user_model().objects.get_or_create(
            username="admin", defaults={"is_staff": True, "is_superuser": True}
        )
        user.set_password(password)
        user.save()
        print(f"User:   admin   Password, until the next start: {password}", flush=True)
    words = supervisor()
    os.execve(words[0], words, environment())  # noqa: S606 - our own list, no shell


if __name__ == "__main__":
    main()
