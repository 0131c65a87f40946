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
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from controlplane.machine import default_slots

ROOT = Path(__file__).resolve().parents[2]
MAX_SOCKET_PATH = 100  # sun_path holds 108 bytes on Linux, 104 on macOS


AUTHORITY = r"([^/?#\s]*@)?([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?"
PATTERNS = {
    "REDIS_URL": rf"rediss?://{AUTHORITY}(/\d*)?(\?\S*)?|redis\+socket://[^?#\s]+(\?\S*)?",
    "SWITCHYARD_ENGINE_URL": rf"https?://{AUTHORITY}(/[^?#\s]*)?",
    "SWITCHYARD_WEBHOOK_URL": rf"https?://{AUTHORITY}([/?]\S*)?",
}
EXAMPLES = {
    "DATABASE_URL": "postgres://user:password@host:5432/name",
    "EMAIL_URL": "smtp+tls://user:password@host:587",
    "REDIS_URL": "redis://:password@host:6379/0",
    "SWITCHYARD_ENGINE_URL": "http://host:8901",
    "SWITCHYARD_WEBHOOK_URL": "https://host/path",
}
DATABASES = {f"django.db.backends.{name}" for name in ("postgresql", "sqlite3")}


@contextmanager
def _a_url(name: str) -> Iterator[None]:
    """ImproperlyConfigured, which shows nothing of the value, for a ValueError."""
    try:
        yield
    except (ValueError, ImproperlyConfigured):
        words = f"give one like {EXAMPLES[name]}, with what is special in user or password percent-encoded"
        raise ImproperlyConfigured(f"{name} is no URL that can be used: {words}.") from None


class Env(environ.Env):  # type: ignore[misc]
    """Says which variable is wrong."""

    def get_value(self, var: str, *words: Any, **options: Any) -> Any:
        """As the parent's; ImproperlyConfigured for what is not of the variable's type."""
        try:
            return super().get_value(var, *words, **options)
        except ValueError as error:
            raise ImproperlyConfigured(f"{var}: {error}.") from error

    def url(self, var: str, *default: str) -> str:
        """The URL; empty where there is none."""
        value: str = self.str(var, *default)
        with _a_url(var):
            if value and (not re.fullmatch(PATTERNS[var], value) or urlsplit(value).port == 0):
                raise ValueError
        return value

    def db_url(self, var: str, default: str) -> Any:
        """The database of the URL, or of the default where it is empty."""
        value = self.str(var, "") or default
        with _a_url(var):
            database = self.db_url_config(value) if "://" in value else {}
            if database.get("ENGINE") not in DATABASES or not database["NAME"]:
                raise ValueError
        return database

    def email_url(self, var: str, default: str) -> Any:
        """The settings of mail by the URL, or by the default where it is empty."""
        value = self.str(var, "") or default
        with _a_url(var):
            mail = self.email_url_config(value)
            if value.startswith("smtp") and not mail["EMAIL_HOST"]:
                raise ValueError
        return mail


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
    SWITCHYARD_PROMOTION_MARGIN=(float, 0.05),
    SWITCHYARD_PROMOTION_FLOOR=(float, 0.8),
    SWITCHYARD_NOTIFY_EMAILS=(list, []),
    SWITCHYARD_EMAIL_FROM=(str, "switchyard@localhost"),
    SWITCHYARD_WEBHOOK_URL=(str, ""),
    SWITCHYARD_WEBHOOK_SECRET=(str, ""),
    SWITCHYARD_ENGINE=(str, "remote"),
    SWITCHYARD_ENGINE_URL=(str, "http://127.0.0.1:8901"),
    SWITCHYARD_ENGINE_STORE=(str, ""),
    SWITCHYARD_INFER_RATE=(str, "600/min"),
    SWITCHYARD_INFER_PLACES=(int, 0),
    SWITCHYARD_USER_PLACES=(int, 0),
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


def share(name: str) -> float:
    """The variable's number, which lies between 0 and 1; ImproperlyConfigured otherwise."""
    value: float = env.float(name)
    if not 0 < value < 1:
        raise ImproperlyConfigured(f"{name} is {value:g}: give a share between 0 and 1, as 0.05 is for 5 points.")
    return value


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
    return not env.url("REDIS_URL", "")


if LOCAL:
    local_secrets(DATA / "secrets.env")
