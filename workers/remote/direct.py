"""Jobs without a control plane: what the entry points of `modal run` share.

A job's name is its launch key: its outputs lie on the data volume in `runs/<name>/out`, where the next job finds
them by the name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import modal
from modal.exception import NotFoundError

from datasets_app.errors import InputError
from datasets_app.names import check_name
from workers.remote.places import RESULT, reference, run_folder


class Direct:
    """The account's volumes by their roles, and its claims."""

    def __init__(self, volumes: Mapping[str, modal.Volume], claims: modal.Dict) -> None:
        self.volumes = volumes
        self.claims = claims

    def folder(self, word: str) -> dict[str, str]:
        """What a word of the command line means: `role:path`, or the name of an earlier run. InputError if neither."""
        role, colon, path = word.partition(":")
        if not colon:
            role, path = "data", f"{run_folder(word)}/out" if self._result(word) else word
        if role not in self.volumes:
            raise InputError(f"{word!r}: there is no volume {role!r}; choose {', '.join(self.volumes)}.")
        if not self._exists(role, path):
            raise InputError(f"{word!r}: neither a finished run nor a folder on the volume {role!r}.")
        return reference(role, path)

    def labels(self, router: dict[str, str]) -> list[str]:
        """The names that the router in that folder may answer."""
        return [str(label) for label in self._json(router["volume"], f"{router['path']}/switchyard.json")["labels"]]

    def run(self, function: Any, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Call the function, wait, and return the recipe's summary. A name that has succeeded is not run again.

        InputError with the job's own sentence if it failed.
        """
        check_name(name, "name")
        if self._result(name).get("state") != "succeeded":
            self.claims.pop(name, None)  # an earlier try that broke off: this one goes on from its checkpoint
            if self._result(name):
                self.volumes["data"].remove_file(f"{run_folder(name)}/{RESULT}")
            launch = {"kind": kind, "launch_key": name, "work_key": name, "spec": spec}
            function.remote(json.dumps(launch))
        result = self._result(name)
        if result.get("state") != "succeeded":
            raise InputError(f"{kind} {name!r}: {result.get('error') or 'no result'}")
        summary: dict[str, Any] = result["summary"]
        return summary

    def _result(self, name: str) -> dict[str, Any]:
        return self._json("data", f"{run_folder(name)}/{RESULT}")

    def _json(self, role: str, path: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(b"".join(self.volumes[role].read_file(path)))
        except (FileNotFoundError, NotFoundError):
            return {}
        return found

    def _exists(self, role: str, path: str) -> bool:
        try:
            return bool(self.volumes[role].listdir(path))
        except (FileNotFoundError, NotFoundError):
            return False


def pairs(text: str) -> dict[str, str]:
    """`a=b,c=d` as a dict; a word alone stands for itself on both sides."""
    words = [word.partition("=") for word in text.split(",") if word]
    return {name: value or name for name, _, value in words}
