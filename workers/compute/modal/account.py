"""The modal client: the account's app and volumes, and what their errors mean here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import modal
from modal.config import config
from modal.exception import AuthError, Error, InvalidError, NotFoundError, PermissionDeniedError

from datasets_app.errors import InputError
from inference.engines.modal.account import is_ours, read_token_anew, sentence
from workers.compute.modal.token import LOG_IN
from workers.compute.types import ComputeUnavailable
from workers.remote.code import code_mark
from workers.remote.names import Names

MAX_JSON_BYTES = 64 * 2**20
A_JOB = "generate_dataset_job"
DEPLOY = "run `modal deploy -m workers.modal_app`"


@contextmanager
def speaking() -> Iterator[None]:
    """What goes wrong between here and Modal becomes a ComputeUnavailable that says what to do, if anything can be.

    What goes wrong on this machine stays what it is.
    """
    read_token_anew()
    try:
        yield
    except AuthError as error:
        if not (config.get("token_id") and config.get("token_secret")):
            raise ComputeUnavailable(f"There is no Modal token: {LOG_IN}.") from error
        raise ComputeUnavailable(
            f"Modal refuses the token: {sentence(error)} Set one with `modal token set`."
        ) from error
    except PermissionDeniedError as error:
        raise ComputeUnavailable(f"The Modal token may not do this: {sentence(error)}") from error
    except (Error, OSError, aiohttp.ClientError) as error:
        if is_ours(error):
            raise
        raise ComputeUnavailable(f"Modal does not answer: {sentence(error)}") from error


class Volume:
    """A volume of the account, read and written from outside."""

    def __init__(self, name: str, environment: str | None) -> None:
        self.volume = modal.Volume.from_name(name, environment_name=environment)

    def read(self, path: str) -> bytes | None:
        """A small file whole, None if it is not there."""
        data = b""
        try:
            for block in self.volume.read_file(path):
                data += block
                if len(data) > MAX_JSON_BYTES:
                    raise InputError(f"{path} on the volume is larger than {MAX_JSON_BYTES >> 20} MiB.")
        except (FileNotFoundError, NotFoundError):
            return None
        return data

    def read_json(self, path: str) -> dict[str, Any]:
        """A JSON object, {} if there is none."""
        try:
            found = json.loads(self.read(path) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def check_deployed(names: Names, environment: str | None, version: int | None) -> None:
    """InputError unless the app is deployed, with the code of this installation, and every volume is there."""
    if found := problems(names, environment, version):
        raise InputError(" ".join(found))


def problems(names: Names, environment: str | None, version: int | None = None) -> list[str]:
    """What is missing in the account, a sentence each; the app is looked at in that version, or the newest."""
    found = list(_of_app(names.app, environment, version))
    for name in names.volumes.values():
        try:
            modal.Volume.from_name(name, environment_name=environment).hydrate()
        except NotFoundError:
            found.append(f"There is no volume {name!r} on Modal: {DEPLOY}, which creates it.")
    return found


def _of_app(app: str, environment: str | None, version: int | None) -> Iterator[str]:
    def has(function: str, version: int | None) -> bool:
        try:
            modal.Function.from_name(app, function, environment_name=environment, version=version).hydrate()
        except (NotFoundError, InvalidError):
            return False
        return True

    if has(code_mark(), version):
        return
    if not has(A_JOB, None):
        yield f"The app {app!r} is not deployed on Modal: {DEPLOY}."
    elif version is None:
        yield f"The app {app!r} on Modal runs other code than this installation: {DEPLOY}."
    elif has(A_JOB, version):
        yield (
            f"Version {version} of the app {app!r} on Modal runs other code than this installation: "
            f"name another in SWITCHYARD_MODAL_VERSION, or none, and {DEPLOY}."
        )
    else:
        yield f"The app {app!r} on Modal has no version {version}: name another in SWITCHYARD_MODAL_VERSION, or none."
