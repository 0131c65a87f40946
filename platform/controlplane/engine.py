"""The engine process: `python -m controlplane.engine` becomes the engine server for this installation's settings."""

from __future__ import annotations

import os
import signal
import sys
from urllib.parse import urlsplit

from django.conf import settings


def command() -> list[str]:
    """The server's command line."""
    base, url = settings.BASE_MODEL, urlsplit(settings.ENGINE["OPTIONS"]["url"])
    words = [sys.executable, "-m", "inference.server"]
    words += ["--host", url.hostname or "127.0.0.1", "--port", str(url.port or 8901)]
    words += ["--base", base["path"], "--device", base["device"], "--dtype", base["dtype"]]
    words += ["--store", str(settings.DATA_ROOT / "store" / "adapters")]
    if base["revision"]:
        words += ["--revision", base["revision"]]
    if settings.ENGINE_ON_MODAL:
        account = settings.COMPUTE["modal"]["OPTIONS"]
        words += ["--modal-app", account["app"], "--modal-volume", account["checkpoints"]]
        for name in ("environment", "version"):
            words += [f"--modal-{name}", str(account[name])] if account[name] else []
    return words


def main() -> None:
    """Replace this process by the server, so that signals reach it; wait for the end where another server is asked."""
    if settings.ENGINE["BACKEND"] != settings.ENGINES["remote"]["BACKEND"]:
        print(f"The engine is {settings.ENGINE['BACKEND']}: there is no server to run here.", flush=True)
        signal.pause()
    os.environ["SWITCHYARD_ENGINE_TOKEN"] = settings.ENGINE["OPTIONS"]["token"]
    words = command()
    os.execv(words[0], words)  # noqa: S606 - our own list, no shell


if __name__ == "__main__":
    main()
