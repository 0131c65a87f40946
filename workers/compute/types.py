"""The seam behind which jobs run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from datasets_app.errors import InputError
from datasets_app.strict_json import check_json
from datasets_app.text import plain
from workers.compute.reports import checked

LONGEST_ERROR = 10_000

Progress = Callable[[int, int], None]


class ComputeUnavailable(Exception):  # noqa: N818 - it says how the backend stands
    """The backend cannot be asked now; how its jobs stand is unknown. The message says why."""


class JobState(StrEnum):
    """How a job stands, as its backend sees it."""

    PENDING = "pending"  # accepted, not yet at work
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the recipe itself failed: again would fail again
    LOST = "lost"  # ended without a word: killed, preempted, power cut
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class JobSpec:
    """One launch of one recipe.

    `launch_key` is unique to the launch: outputs lie under it and the job claims it before any work.
    `work_key` is shared by all launches of the same work, which find each other's checkpoints by it.
    """

    kind: str
    launch_key: str
    work_key: str
    spec: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "kind": self.kind,
            "launch_key": self.launch_key,
            "work_key": self.work_key,
            "spec": self.spec,
        }


@dataclass(frozen=True)
class JobStatus:
    """A job's state, its latest progress and, at the end, the recipe's summary or the error.

    `handle`, if set, is the job's handle from now on: another call had taken the launch before. `seconds` is for how
    long a machine has been held, as far as the backend knows, and `machine` what the job found it to be.
    """

    state: JobState
    progress: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    handle: str = ""
    seconds: float = 0.0
    machine: str = ""

    def __post_init__(self) -> None:
        """What a job wrote may be anything: a report that is none counts as no progress, and a summary that nobody can
        record as a failure."""
        state, summary, error = self.state, self.summary, str(self.error)
        try:
            check_json(summary)
        except InputError as wrong:
            state, summary, error = JobState.FAILED, {}, f"The job's summary cannot be recorded: {wrong}"
        clean = {"error": plain(error)[:LONGEST_ERROR], "machine": plain(self.machine), "handle": plain(self.handle)}
        for name, value in {"state": state, "progress": checked(self.progress), "summary": summary, **clean}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def left(cls, result: dict[str, Any], progress: dict[str, Any]) -> JobStatus:
        """That of a job which left this `result.json`."""
        state, summary = result.get("state"), result.get("summary", {})
        if state == JobState.CANCELLED:
            return cls(JobState.CANCELLED, progress)
        if state == JobState.SUCCEEDED and isinstance(summary, dict):
            return cls(JobState.SUCCEEDED, progress, summary)
        return cls(JobState.FAILED, progress, error=str(result.get("error") or "The job left no reason."))


class Compute(Protocol):
    """Where jobs run. Handles are opaque strings that outlive this process.

    Any method but `logs`, `problems` and `missing` may raise ComputeUnavailable: nothing is known then, and the same is
    to be asked later.
    """

    def submit(self, job: JobSpec) -> str:
        """Start the job and return its handle; again with the same launch key does the work no second time.

        InputError if the backend is set up wrong, so that the job was not and will not be started.
        """

    def poll(self, handle: str) -> JobStatus:
        """How the job stands."""

    def cancel(self, handle: str, *, at_once: bool = False) -> None:
        """Ask the job to end, harder each time, or make it end `at_once`; `poll` says when it has."""

    def logs(self, handle: str, lines: int = 200) -> str:
        """The last lines that the job wrote, 256 KiB at most."""

    def outputs(self, handle: str, progress: Progress | None = None) -> Path:
        """A local folder with the outputs of a job that succeeded, checked against its manifest.

        If they have to be brought here, `progress` is told how many bytes have come, of how many.
        """

    def missing(self) -> str:
        """What it lacks to be used at all, without asking it: a sentence, or '' if it lacks nothing."""

    def problems(self) -> list[str]:
        """What keeps jobs from running, a sentence each that says what to do; empty if nothing does."""
