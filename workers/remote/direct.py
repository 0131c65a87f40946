"""Jobs without a control plane: what the entry points of `modal run` share.

A job's name is its launch key: its outputs lie on the data volume in `runs/<name>/out`, where the next job finds
them by the name. As in the control plane, nothing that a container sent is unpickled here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import modal
from modal.exception import NotFoundError

from datasets_app.errors import InputError
from datasets_app.names import check_name
from workers.remote import calls
from workers.remote.places import CLAIM, RESULT, claim_key, reference, run_folder

MAX_JSON_BYTES = 64 * 2**20
SHOWN = 60  # characters of an option's value in a sentence


class Direct:
    """The account's volumes by their roles, and its claims."""

    def __init__(self, volumes: Mapping[str, modal.Volume], claims: modal.Dict) -> None:
        self.volumes = volumes
        self.claims = claims

    def folder(self, word: str, role: str = "data") -> dict[str, str]:
        """What a word of the command line means: `role:path`, or the name of an earlier run, or a path on this volume.

        InputError if it is none of them.
        """
        given, colon, path = word.partition(":")
        if colon:
            role = given
        elif self._result(word).get("state") == "succeeded":
            role, path = "data", f"{run_folder(word)}/out"
        else:
            path = word
        if role not in self.volumes:
            raise InputError(f"{word!r}: there is no volume {role!r}; choose {', '.join(self.volumes)}.")
        if not self._exists(role, path):
            raise InputError(f"{word!r}: neither a finished run nor a folder on the volume {role!r}.")
        return reference(role, path)

    def adapter(self, word: str, role: str = "data") -> dict[str, str]:
        """The folder of an adapter: as a run of train leaves it, that may be `final` of what the word means."""
        found = self.folder(word, role)
        final = f"{found['path']}/final"
        return reference(found["volume"], final) if self._exists(found["volume"], final) else found

    def labels(self, router: dict[str, str]) -> list[str]:
        """The names that the router in that folder may answer. InputError if the folder holds no router."""
        card = self._json(router["volume"], f"{router['path']}/switchyard.json")
        labels = card.get("labels")
        if not isinstance(labels, list) or not labels:
            raise InputError(f"{router['volume']}:{router['path']} holds no router with its card, switchyard.json.")
        return [str(label) for label in labels]

    def run(self, function: Any, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Call the function, wait, and return the recipe's summary.

        A name whose job is under way or has succeeded with the same spec is not run again; one that failed or broke off
        is, by a call that takes it over from the one that ended. InputError with the job's own sentence if it failed,
        and if the name is that of other work.
        """
        check_name(name, "name")
        call = self._newest(name)
        if call and self._stands(name, call):
            self._check_same(name, call, kind, spec)
            print(f"{name!r} was begun before: waiting for {call}, or for what it left.", file=sys.stderr)
        else:
            identity = hashlib.sha256(json.dumps([kind, spec], sort_keys=True).encode()).hexdigest()[:16]
            launch = {"kind": kind, "launch_key": name, "work_key": f"{name}-{identity}", "spec": spec, "follows": call}
            spawned = str(function.spawn(json.dumps(launch)).object_id)
            _end(spawned)
            call = self._newest(name) or spawned  # another may have been first
        answer = _end(call)
        self._check_same(name, call, kind, spec)
        result = self._result(name, call)
        if result.get("state") == "succeeded":
            return dict(result["summary"])
        said = result.get("error") or f"it left no result: its call {call} is {answer.outcome.value}. {answer.words}"
        raise InputError(f"{kind} {name!r}: {said}")

    def _newest(self, name: str) -> str:
        """The call that took the name last, '' if none has."""
        recorded = self._json("data", f"{run_folder(name)}/{CLAIM}").get("call")
        seen = [str(recorded) if calls.is_call(recorded) else ""]  # the Dict forgets after some idle days
        while (later := calls.holder(self.claims, claim_key(name, seen[-1]))) and later not in seen:
            seen.append(later)
        return seen[-1]

    def _stands(self, name: str, call: str) -> bool:
        """Whether the call's work is not to be done again: it is under way, or has succeeded."""
        is_pending = calls.ask(call).outcome is calls.Outcome.PENDING  # asked before the result is looked for
        return is_pending or self._result(name, call).get("state") == "succeeded"

    def _check_same(self, name: str, call: str, kind: str, spec: dict[str, Any]) -> None:
        """InputError that names the options if the call, as far as it has begun, does other work."""
        claim = self._json("data", f"{run_folder(name)}/{CLAIM}")
        if claim.get("call") != call:
            return
        if claim.get("kind") != kind:
            raise InputError(f"{name!r} is a run of {claim.get('kind') or 'an earlier version'}: choose another name.")
        old = claim.get("spec") or {}
        differing = [
            f"{option} ({_shown(old.get(option))} there, {_shown(spec.get(option))} here)"
            for option in sorted(old.keys() | spec.keys())
            if old.get(option) != spec.get(option)
        ]
        if differing:
            raise InputError(f"{name!r} is a run with other options: {', '.join(differing)}. Choose another name.")

    def _result(self, name: str, call: str = "") -> dict[str, Any]:
        """What a run left, {} if nothing, or if another than the given call did."""
        result = self._json("data", f"{run_folder(name)}/{RESULT}")
        return result if call in ("", result.get("call")) else {}

    def _json(self, role: str, path: str) -> dict[str, Any]:
        """An object, {} if there is none; a container may have written anything."""
        data = b""
        try:
            for block in self.volumes[role].read_file(path):
                data += block
                if len(data) > MAX_JSON_BYTES:
                    raise InputError(f"{role}:{path} is larger than {MAX_JSON_BYTES >> 20} MiB.")
            found = json.loads(data)
        except (FileNotFoundError, NotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _exists(self, role: str, path: str) -> bool:
        try:
            return bool(self.volumes[role].listdir(path))
        except (FileNotFoundError, NotFoundError):
            return False


def pairs(text: str) -> dict[str, str]:
    """`a=b,c=d` as a dict; a word alone stands for itself on both sides."""
    words = [word.partition("=") for word in text.split(",") if word]
    return {name: value or name for name, _, value in words}


def fields(options: str) -> dict[str, Any]:
    """The recipe's own fields, from JSON; InputError if that is no object."""
    try:
        found = json.loads(options)
    except ValueError as error:
        raise InputError(f"--options: {options[:200]!r} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InputError(f"--options: {options[:200]!r} is no JSON object.")
    return found


def _end(call: str) -> calls.Answer:
    """Wait for the call's end."""
    while (answer := calls.ask(call, calls.HELD_SECONDS)).outcome is calls.Outcome.PENDING:
        pass
    return answer


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
