"""Whether this machine has a token of Modal's, without the client, which web processes never load."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

LOG_IN = "run `modal token new`, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"
_PARTS = ("token_id", "token_secret")


def has_token() -> bool:
    """Looks where the client does: the environment, then the profile of `~/.modal.toml` that is in use."""
    own = _profile()
    return all(os.environ.get(f"MODAL_{part.upper()}") or own.get(part) for part in _PARTS)


def _profile() -> dict[str, object]:
    file = Path(os.environ.get("MODAL_CONFIG_PATH") or Path.home() / ".modal.toml")
    try:
        profiles = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home folder
        return {}
    tables = {name: table for name, table in profiles.items() if isinstance(table, dict)}
    active = next((name for name, table in tables.items() if table.get("active") is True), "default")
    return tables.get(os.environ.get("MODAL_PROFILE") or active, {})
