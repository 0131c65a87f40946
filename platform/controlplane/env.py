"""The environment: what the control plane reads from it. `docs/settings.md` lists every variable of the product."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from controlplane.machine import default_slots

ROOT = Path(__file__).resolve().parents[2]
MAX_SOCKET_PATH = 100  # sun_path holds 108 bytes on Linux, 104 on macOS


@contextmanager
def _a_url(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError:
        words = "what is special in its user or password must be percent-encoded"
        raise ImproperlyConfigured(f"{name} is no URL: {words}.") from None


class Env(environ.Env):  # type: ignore[misc]
    """Says which variable is wrong."""

    def get_value(self, var: str, *words: Any, **options: Any) -> Any:
        """As the parent's; ImproperlyConfigured for what is not of the variable's type."""
        try:
            return super().get_value(var, *words, **options)
        except ValueError as error:
            raise ImproperlyConfigured(f"{var}: {error}.") from error

    def db_url(self, var: str, *, default: str) -> Any:
        """As the parent's, with the default for an empty one; ImproperlyConfigured, which shows nothing of it, for what
        is no URL."""
        with _a_url(var):
            return self.db_url_config(self.str(var, "") or default)

    def email_url(self, var: str, *, default: str) -> Any:
        """The same."""
        with _a_url(var):
            return self.email_url_config(self.str(var, "") or default)


env = Env(
    SWITCHYARD_ENV=(str, "local"),
    SWITCHYARD_DATA=(str, str(ROOT / "var")),
    SWITCHYARD_BASE=(str, ""),
    SWITCHYARD_BASE_REVISION=(str, ""),
    SWITCHYARD_DEVICE=(str, "auto"),
    SWITCHYARD_DTYPE=(str, "auto"),
    SWITCHYARD_LOCAL_SLOTS=(int, default_slots(os.environ.get("SWITCHYARD_DEVICE", "auto"))),
    SWITCHYARD_COMPUTE=(str, "local"),
    SWITCHYARD_MODAL_SLOTS=(int, 4),
    SWITCHYARD_MODAL_VERSION=(int, 0),
    SWITCHYARD_MODAL_DEADLINE_HOURS=(float, 48.0),
    SWITCHYARD_MODAL_MAX_PER_RUN=(float, 0.0),
    SWITCHYARD_MODAL_MAX_PER_DAY=(float, 0.0),
    SWITCHYARD_LEASE_SECONDS=(float, 50.0),
    SWITCHYARD_STALL_SECONDS=(float, 30 * 60),
    SWITCHYARD_NOTIFY_EMAILS=(list, []),
    SWITCHYARD_EMAIL_FROM=(str, "switchyard@localhost"),
    SWITCHYARD_WEBHOOK_URL=(str, ""),
    SWITCHYARD_WEBHOOK_SECRET=(str, ""),
    SWITCHYARD_ENGINE=(str, "remote"),
    SWITCHYARD_ENGINE_URL=(str, "http://127.0.0.1:8901"),
    SWITCHYARD_ENGINE_STORE=(str, ""),
    SWITCHYARD_INFER_RATE=(str, "600/min"),
    SWITCHYARD_PROXIES=(str, "0"),
    SWITCHYARD_HOSTS=(list, ["127.0.0.1", "localhost", "[::1]"]),
    SWITCHYARD_LOG_LEVEL=(str, "INFO"),
)

LOCAL = env.str("SWITCHYARD_ENV") == "local"
DATA = Path(env.str("SWITCHYARD_DATA")).resolve()


def matching(name: str, pattern: str, wanted: str) -> str:
    """The variable's text; ImproperlyConfigured, which says what is wanted, where it is none of the pattern's."""
    text: str = env.str(name)
    if not re.fullmatch(pattern, text):
        raise ImproperlyConfigured(f"{name} is {text[:40]!r}: give {wanted}.")
    return text


def local_secrets(path: Path) -> None:
    """Give this installation secrets of its own, kept in `path` (mode 0600) and read into the environment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(handle, "w") as file:
            file.write(f"SECRET_KEY={secrets.token_urlsafe(50)}\n")
            file.write(f"SWITCHYARD_ENGINE_TOKEN={secrets.token_urlsafe(32)}\n")
    environ.Env.read_env(path)  # what the environment already holds wins


def broker_socket() -> Path:
    """Where the embedded broker listens; in the temporary folder where the data folder's path is too long."""
    path = DATA / "broker" / "broker.sock"
    if len(str(path)) > MAX_SOCKET_PATH:
        folder = f"switchyard-{os.getuid()}-{hashlib.sha256(str(DATA).encode()).hexdigest()[:12]}"
        path = Path(tempfile.gettempdir()) / folder / "broker.sock"
    return path


def has_own_broker() -> bool:
    """Whether this installation's broker is the embedded one."""
    return not env.str("REDIS_URL", "")


if LOCAL:
    local_secrets(DATA / "secrets.env")
