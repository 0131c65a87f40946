"""The token of this machine, and whose fault an error is; for all that speak with Modal from outside."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import aiohttp
import modal
from modal import config
from modal.exception import InvalidError

from datasets_app.text import cut_urls

_OF_FILES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}
_read = -1  # when the file was written that the client has read, in nanoseconds; -1 before the first look


def read_token_anew() -> None:
    """Let the client read `~/.modal.toml` again if it was written since; by itself it reads it once."""
    global _read
    try:
        written = Path(config.user_config_path).stat().st_mtime_ns
    except OSError:
        written = 0
    if written == _read:
        return
    before = _token()
    try:
        config._user_config = config._read_user_config()
    except InvalidError:  # half written: the next look reads it whole
        return
    config._profile = os.environ.get("MODAL_PROFILE") or config._config_active_profile()
    if _token() != before:
        modal.Client._set_env_client(None)
    _read = written


def is_ours(error: BaseException) -> bool:
    """Whether the error is one of this machine's files, and none of Modal or of the line there."""
    if not isinstance(error, OSError) or isinstance(error, aiohttp.ClientError):
        return False
    return error.errno in _OF_FILES or error.filename is not None


def sentence(error: BaseException) -> str:
    """The error in words that may be shown."""
    text = cut_urls(" ".join(str(error).split()))[:300] or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _token() -> tuple[Any, Any]:
    return config.config.get("token_id"), config.config.get("token_secret")
