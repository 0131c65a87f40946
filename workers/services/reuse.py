"""Equal work has an equal result: a run may take that of an earlier one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from django.db import transaction

from adapters.services import set_current, store
from datasets_app.errors import InputError
from workers.kinds.base import Resolved
from workers.models import Run
from workers.recipes.packages import versions
from workers.services.moves import move
from workers.states import Status


def fingerprint(kind: str, resolved: Resolved) -> str:
    """Hash of the work: the recipe, its spec, in which every path stands for what lies there, its libraries, and
    whose the result will be.
    """
    spec = _by_content(resolved.spec, resolved.digests)
    work = json.dumps([kind, spec, versions(kind), resolved.owner], sort_keys=True)
    return "sha256:" + hashlib.sha256(work.encode()).hexdigest()


def _by_content(value: Any, digests: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _by_content(item, digests) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_by_content(item, digests) for item in value]
    return digests.get(value, value) if isinstance(value, str) else value


def take_result(run: Run) -> bool:
    """End the run with the result of the newest equal one that still has it; False if there is none."""
    equal = Run.objects.filter(kind=run.kind, fingerprint=run.fingerprint, status=Status.SUCCEEDED)
    for done in equal.exclude(pk=run.pk).order_by("-id"):
        folder = result_folder(done)
        if folder is None or not folder.is_dir():
            continue
        fields = {name: getattr(done, name) for name in RESULTS}
        with transaction.atomic():
            taken = move(run, Status.SUCCEEDED, reused_from=done.reused_from or done, summary=done.summary, **fields)
            if taken and done.adapter_version is not None:
                set_current(done.adapter_version)
        if taken:
            return True
    return False


RESULTS = ("routing_dataset", "prepared_dataset", "adapter_version", "evaluation")


def result_folder(run: Run) -> Path | None:
    """Where the result of a run lies, if its row is still there."""
    if run.adapter_version is not None:
        try:
            return store().path(run.adapter_version.digest)
        except InputError:
            return None
    result = run.routing_dataset or run.prepared_dataset or run.evaluation
    return Path(result.path) if result is not None else None
