"""Receipts: what an answer was given with."""

from __future__ import annotations

from dataclasses import replace

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

    def write(self, job: Job, label: str | None) -> Receipt:
        """The receipt of a job whose router, if there is one, has named `label`, before any answer."""
        router = job.deployment.router
        return Receipt(
            stack=job.deployment.digest,
            base=self._base,
            dtype=self._runner.dtype,
            device=str(self._runner.model.device),
            router=_used(router) if router else None,
            labels=router.card.labels if router else (),
            label=label,
            expert=_used(job.expert) if job.expert else None,
            image=job.image_digest,
            prompt=job.words,
            max_tokens=job.max_tokens,
            packages=self._packages,
        )

    def answered(self, job: Job, text: str, reason: str) -> Receipt:
        """The receipt of the whole answer. What a deadline has cut off comes again if so many tokens are asked for."""
        written = (job.decision and job.decision.receipt) or self.write(job, None)
        limit = len(job.tokens) if reason == "deadline" else job.max_tokens
        return replace(written.answered(text), max_tokens=limit)


def _used(role: Role) -> Used:
    card = role.card
    return Used(role.ref.name, role.ref.digest, role.template, card.min_pixels, card.max_pixels, role.proven)
