"""A fresh installation to be hurt."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from controlplane.processes import free_port

KINDS = ("calendar", "claim-window")
LEASE, SLOTS = 3.0, 2


def set_up(data: Path) -> str:
    """Settings, database and two experts with their sources below `data`; a token for the API."""
    os.environ.update(
        SWITCHYARD_DATA=str(data),
        SWITCHYARD_PORT=str(free_port()),
        SWITCHYARD_LEASE_SECONDS=str(LEASE),
        SWITCHYARD_LOCAL_SLOTS=str(SLOTS),
        SWITCHYARD_LOG_LEVEL="CRITICAL",
        DJANGO_SETTINGS_MODULE="controlplane.settings",
        OMP_NUM_THREADS="1",
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from knox.models import AuthToken

    from adapters.services import register_adapter
    from datasets_app.samples.source import write_source
    from datasets_app.services import register_source

    call_command("migrate", verbosity=0)
    for kind in KINDS:
        register_adapter(kind, source=register_source(kind, write_source(kind, data / "sources" / kind, 6, seed=1)))
    token: str = AuthToken.objects.create(User.objects.create_superuser("chaos"))[1]
    return token
