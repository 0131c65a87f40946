"""What is wrong with the account on Modal: a worker finds out once a minute, and pages read what it found."""

from __future__ import annotations

import json
import time
from pathlib import Path

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db.models import Q

from workers.compute import get_compute
from workers.models import Run
from workers.recipes.files import write_atomically
from workers.states import ACTIVE

KEPT_SECONDS = 600.0  # what nobody has looked at again since then may be over


def look_at_account() -> None:
    """Ask Modal, if jobs or the engine are there or something is fetched from there, and keep the answer."""
    if not _is_used():
        _file().unlink(missing_ok=True)
        return
    try:
        problems = get_compute("modal").problems()
    except SoftTimeLimitExceeded:
        problems = ["Modal does not answer."]
    _file().parent.mkdir(parents=True, exist_ok=True)
    write_atomically(_file(), json.dumps(problems))


def account_problems() -> list[str]:
    """What the worker found last, a sentence each; empty if nothing is wrong, or nobody has looked of late."""
    try:
        if time.time() - _file().stat().st_mtime > KEPT_SECONDS:
            return []
        return [str(problem) for problem in json.loads(_file().read_bytes())]
    except (OSError, ValueError):
        return []


def _is_used() -> bool:
    is_default = settings.COMPUTE_DEFAULT == "modal" or settings.ENGINE_ON_MODAL
    on_modal = Q(backend="modal") | Q(kind=Run.Kind.FETCH)  # which runs here, and reads a volume there
    return is_default or Run.objects.filter(on_modal, status__in=ACTIVE).exists()


def _file() -> Path:
    return Path(settings.COMPUTE["modal"]["OPTIONS"]["root"]) / "account.json"
