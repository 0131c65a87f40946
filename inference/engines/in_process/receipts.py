"""Receipts: what an answer was given with."""

from __future__ import annotations

from inference.engines.in_process.jobs import Job, Role
from inference.engines.in_process.runner import Runner
from inference.engines.packages import versions
from inference.engines.types import Receipt, Used

PACKAGES = ("switchyard", "torch", "transformers", "peft", "tokenizers", "pillow")


class Receipts:
    """Writes the receipts of one engine, which holds the base with fingerprint `base`."""

    def __init__(self, base: str, runner: Runner) -> None:
        self._base = base
        self._runner = runner
        self._packages = versions(PACKAGES)

    def write(self, job: Job, label: str) -> Receipt:
        """The receipt of a job whose router has named `label`, before any answer."""
        router = job.deployment.first
        return Receipt(
            stack=job.deployment.digest,
            base=self._base,
            dtype=self._runner.dtype,
            device=str(self._runner.model.device),
            router=_used(router),
            labels=router.card.labels,
            label=label,
            expert=_used(job.expert) if job.expert else None,
            image=job.image_digest,
            prompt=job.words,
            max_tokens=job.max_tokens,
            packages=self._packages,
        )


def _used(role: Role) -> Used:
    card = role.card
    return Used(role.ref.name, role.ref.digest, role.template, card.min_pixels, card.max_pixels, role.proven)
