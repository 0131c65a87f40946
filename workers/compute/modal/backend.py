"""The compute backend `modal`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.compute.logs import tail
from workers.compute.types import ComputeUnavailable, JobSpec, JobState, JobStatus, Progress
from workers.recipes.files import write_atomically
from workers.remote.names import Names
from workers.remote.places import CLAIM, JOB, RESULT, STATUS, run_folder

if TYPE_CHECKING:
    from workers.compute.modal.account import Volume
    from workers.remote.calls import Answer
    from workers.remote.signs import Sign

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
            known = calls.owner(self.names.claims, self.environment, job.launch_key)
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
            data, folder = self._volume("data"), run_folder(key)
            owner = calls.owner(self.names.claims, self.environment, key)
            call = call or owner or self._recorded(data, key, CLAIM, JOB)
            if not calls.is_call(call):
                return JobStatus(JobState.LOST, error="There is no such call on Modal.")
            answer = calls.ask(call)
            if not owner and answer.outcome is calls.Outcome.PENDING:
                return JobStatus(JobState.PENDING)
            owner = owner or self._recorded(data, key, CLAIM)  # the Dict forgets after some idle days
            if owner not in ("", call):  # another call was first: that one is the job
                return replace(self.poll(f"{key}/{owner}"), handle=f"{key}/{owner}")
            self._keep_log(key, calls.log_tail(call, 500))
            progress = data.read_json(f"{folder}/{STATUS}")
            claim = data.read_json(f"{folder}/{CLAIM}")
            sign = signs.last_sign(self.names.claims, self.environment, key)
            result = {} if answer.outcome is calls.Outcome.PENDING else data.read_json(f"{folder}/{RESULT}")
        held: dict[str, Any] = {"seconds": _seconds(sign, result), "machine": str(claim.get("machine", ""))[:64]}
        if answer.outcome is calls.Outcome.PENDING:
            waits = sign is not None and sign.is_silence  # preempted, and no machine is free
            return JobStatus(JobState.PENDING if waits else JobState.RUNNING, progress, **held)
        ended = JobStatus.left(result, progress) if result else _without_result(answer, progress)
        return replace(ended, **held)

    def cancel(self, handle: str, *, at_once: bool = False) -> None:
        from workers.compute.modal import account
        from workers.remote import calls

        key, _, known = handle.partition("/")
        with account.speaking():
            calls.forestall(self.names.claims, self.environment, key)
            owner = calls.owner(self.names.claims, self.environment, key)
            recorded = known or self._recorded(self._volume("data"), key, JOB)
            for call in filter(calls.is_call, {owner, recorded}):
                calls.cancel(call)

    def logs(self, handle: str, lines: int = 200) -> str:
        return tail(self.root / handle.partition("/")[0] / LOG, lines)

    def outputs(self, handle: str, progress: Progress | None = None) -> Path:
        from workers.compute.modal import account, fetching

        key = handle.partition("/")[0]
        with account.speaking():
            return fetching.fetch(self._volume("data"), run_folder(key), self.root / key, progress)

    def problems(self) -> list[str]:
        from workers.compute.modal import account

        try:
            with account.speaking():
                return account.problems(self.names, self.environment, self.version)
        except ComputeUnavailable as error:
            return [str(error)]

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


def _seconds(sign: Sign | None, result: dict[str, Any]) -> float:
    """For how long containers were held; what one of them wrote may be anything."""
    try:
        return min(max(0.0, float(result["held"])), MOST_SECONDS)
    except (KeyError, TypeError, ValueError):
        return sign.seconds if sign else 0.0


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
