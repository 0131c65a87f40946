"""The compute backend `modal`."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.compute.logs import tail
from workers.compute.modal.token import LOG_IN, has_token
from workers.compute.types import ComputeUnavailable, JobSpec, JobState, JobStatus, Progress
from workers.recipes.files import write_atomically
from workers.remote.names import Names
from workers.remote.places import CLAIM, JOB, RESULT, SIGN, STATUS, run_folder

if TYPE_CHECKING:
    import modal

    from workers.compute.modal.account import Volume
    from workers.remote.calls import Answer

LOG = "log"
MOST_SECONDS = 1e8


class ModalCompute:
    """Spawns the app's function of the job's kind; the handle is `<launch key>/<call id>`.

    The launch's folder on the data volume is the record: who took it, how far it is, its result. `root` holds a
    folder a launch with the outputs that were fetched and the last log, which the web process reads.
    """

    def __init__(self, root: str, environment: str | None = None, version: int | None = None, **names: str) -> None:
        self.root = Path(root)
        self.environment = environment
        self.version = version
        self.names = Names(**names)

    def submit(self, job: JobSpec) -> str:
        from workers.compute.modal import account, staging
        from workers.remote import calls

        with account.speaking():
            data = self._volume("data")
            known = calls.holder(self._claims(), job.launch_key)
            if known := known or self._recorded(data, job.launch_key, CLAIM, JOB):
                return f"{job.launch_key}/{known}"
            account.check_deployed(self.names, self.environment, self.version)
            volumes = {role: self._volume(role) for role in ("data", "base")}
            launch = {**job.as_dict(), "spec": staging.stage(job.kind, job.spec, volumes)}
            call = calls.spawn(self.names.app, f"{job.kind}_job", self.environment, self.version, json.dumps(launch))
            try:
                with account.speaking():
                    record = json.dumps({"call": call}).encode()
                    staging.write(data, f"{run_folder(job.launch_key)}/{JOB}", record)
            except ComputeUnavailable:
                pass  # only a worker that dies right now would have needed it
        return f"{job.launch_key}/{call}"

    def poll(self, handle: str) -> JobStatus:
        from workers.compute.modal import account
        from workers.remote import calls, signs

        key, _, call = handle.partition("/")
        with account.speaking():
            data, claims, folder = self._volume("data"), self._claims(), run_folder(key)
            call = call or self._owner(data, key) or self._recorded(data, key, JOB)
            if not calls.is_call(call):
                return JobStatus(JobState.LOST, error="There is no such call on Modal.")
            answer = calls.ask(call)
            owner = self._owner(data, key)
            if not owner and answer.outcome is calls.Outcome.PENDING:
                return JobStatus(JobState.PENDING)
            if owner not in ("", call):  # another call was first: that one is the job
                return replace(self.poll(f"{key}/{owner}"), handle=f"{key}/{owner}")
            self._keep_log(key, calls.log_tail(call, 500))
            progress = data.read_json(f"{folder}/{STATUS}")
            claim = data.read_json(f"{folder}/{CLAIM}")
            sign = signs.last_sign(claims, key)
            if sign is None or sign.is_late:
                sign = signs.newest(sign, signs.Sign.read((data.read(f"{folder}/{SIGN}") or b"").decode("latin-1")))
            result = {} if answer.outcome is calls.Outcome.PENDING else data.read_json(f"{folder}/{RESULT}")
        seconds = sign.seconds if sign else _since_start(claim, answer)
        held: dict[str, Any] = {
            "seconds": _number(result.get("held"), seconds),
            "machine": str(claim.get("machine", ""))[:64],
        }
        if answer.outcome is calls.Outcome.PENDING:
            waits = sign is not None and sign.is_silence  # preempted, and no machine is free
            return JobStatus(JobState.PENDING if waits else JobState.RUNNING, progress, **held)
        ended = JobStatus.left(result, progress) if result else _without_result(answer, progress)
        return replace(ended, **held)

    def cancel(self, handle: str, *, at_once: bool = False) -> None:
        from workers.compute.modal import account
        from workers.remote import calls

        key, _, known = handle.partition("/")
        with account.speaking(), ExitStack() as rest:  # which is done in turn, whatever fails before
            rest.callback(self._cancel_others, key, known)
            rest.callback(calls.forestall, self._claims(create=True), key)
            if calls.is_call(known):
                calls.cancel(known)

    def _cancel_others(self, key: str, known: str) -> None:
        """End the call that has taken the launch, if that is not the known one, or one that was spawned for it."""
        from workers.remote import calls

        data = self._volume("data")
        for call in {self._owner(data, key), known or self._recorded(data, key, JOB)} - {known}:
            if calls.is_call(call):
                calls.cancel(call)

    def logs(self, handle: str, lines: int = 200) -> str:
        return tail(self.root / handle.partition("/")[0] / LOG, lines)

    def outputs(self, handle: str, progress: Progress | None = None) -> Path:
        from workers.compute.modal import account, fetching

        key = handle.partition("/")[0]
        with account.speaking():
            return fetching.fetch(self._volume("data"), run_folder(key), self.root / key, progress)

    def missing(self) -> str:
        return "" if has_token() else f"There is no account of Modal's here: {LOG_IN}."

    def problems(self) -> list[str]:
        from workers.compute.modal import account

        try:
            with account.speaking():
                return account.problems(self.names, self.environment, self.version)
        except ComputeUnavailable as error:
            return [str(error)]

    def _claims(self, *, create: bool = False) -> modal.Dict:
        import modal

        return modal.Dict.from_name(self.names.claims, environment_name=self.environment, create_if_missing=create)

    def _owner(self, data: Volume, key: str) -> str:
        """The call that has taken the launch, '' if none has: by the Dict, or by the volume, since the Dict forgets
        after some idle days and may not answer."""
        from modal.exception import Error

        from workers.remote import calls

        try:
            return calls.holder(self._claims(), key) or self._recorded(data, key, CLAIM)
        except (Error, OSError):
            if recorded := self._recorded(data, key, CLAIM):
                return recorded
            raise

    def _volume(self, role: str) -> Volume:
        from workers.compute.modal.account import Volume

        return Volume(self.names.volumes[role], self.environment)

    @staticmethod
    def _recorded(data: Volume, key: str, *names: str) -> str:
        """The call that one of these files of the launch names; '' if none does."""
        from workers.remote.calls import is_call

        found = (data.read_json(f"{run_folder(key)}/{name}").get("call") for name in names)
        return next((str(call) for call in found if is_call(call)), "")

    def _keep_log(self, key: str, text: str) -> None:
        if not text:
            return
        folder = self.root / key
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / LOG, text)


def _since_start(claim: dict[str, Any], answer: Answer) -> float:
    """For how long the last container has been held, if one may be; for want of a sign."""
    from workers.remote.calls import Outcome

    try:
        began = float(claim["starts"][-1])
    except (KeyError, IndexError, TypeError, ValueError):
        return 0.0
    return _number(time.time() - began, 0.0) if answer.outcome is Outcome.PENDING else 0.0


def _number(value: object, default: float) -> float:
    """Seconds that a container wrote, which may be anything."""
    try:
        return min(max(0.0, float(value)), MOST_SECONDS)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default


def _without_result(answer: Answer, progress: dict[str, Any]) -> JobStatus:
    """By what Modal says of a call whose job left no word."""
    from workers.remote.calls import Outcome

    words = answer.words or "no message"
    state, error = {
        Outcome.DONE: (JobState.LOST, "The call on Modal ended, but its job left no result."),
        Outcome.RAISED: (JobState.FAILED, f"The function on Modal raised an exception: {words}"),
        Outcome.TIMED_OUT: (
            JobState.FAILED,
            f"The function on Modal ran into its time limit: {words} Launch again to go on from the last checkpoint.",
        ),
        Outcome.CANCELLED: (JobState.CANCELLED, "The call was cancelled on Modal."),
        Outcome.UNSTARTED: (JobState.FAILED, f"The container on Modal could not start: {words}"),
        Outcome.CRASHED: (JobState.LOST, f"The container on Modal was lost: {words}"),
        Outcome.EXPIRED: (JobState.LOST, "Modal keeps nothing of this call any more, and its job left no result."),
    }[answer.outcome]
    return JobStatus(state, progress, error=error)
