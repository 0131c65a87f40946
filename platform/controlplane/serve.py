"""`python -m controlplane.serve`: everything on this machine; locally with a password for this once."""

from __future__ import annotations

import os
import secrets
import sys

import django
from django.core.exceptions import ImproperlyConfigured

from controlplane.env import LOCAL
from controlplane.supervisor import check_settings


def main() -> None:
    """Bring the database up to date, give a local `admin` a new password, and become the process manager."""
    try:
        check_settings()
    except (ValueError, ImproperlyConfigured) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from controlplane.processes import supervisor

    settings.DATA_ROOT.mkdir(parents=True, exist_ok=True)
    call_command("migrate", verbosity=0)
    users = get_user_model().objects
    if LOCAL:
        port = os.environ.get("SWITCHYARD_PORT", "8000")
        print(f"Admin:  http://127.0.0.1:{port}/admin/")
        print(f"API:    http://127.0.0.1:{port}/api/docs/")
        password = secrets.token_urlsafe(12)
        user, _ = users.get_or_create(username="admin", defaults={"is_staff": True, "is_superuser": True})
        user.set_password(password)
        user.save()
        print(f"User:   admin   Password, until the next start: {password}", flush=True)
    elif not users.exists():
        print("There is no user yet: python manage.py createsuperuser", flush=True)
    words = supervisor()
    os.execv(words[0], words)  # noqa: S606 - our own list, no shell


if __name__ == "__main__":
    main()
