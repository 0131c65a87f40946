"""`python -m tests.postgres [pytest's arguments]`: the same tests on PostgreSQL.

On the server of `DATABASE_URL`, or else on one of this machine's own programs (Debian's package `postgresql`), which
is made for this once in a temporary folder and ended afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg

from controlplane.processes import free_port

USER = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root


def find_programs() -> Path:
    """The folder with initdb and pg_ctl."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise SystemExit("No PostgreSQL here: install it, or set DATABASE_URL.")
    return (found[0] if found else Path(str(on_path))).parent


@contextmanager
def server() -> Iterator[str]:
    """A server of our own; its URL."""
    programs, port = find_programs(), free_port()
    with tempfile.TemporaryDirectory(prefix="switchyard-postgres-") as name:
        folder = Path(name)
        if USER:
            shutil.chown(folder, USER)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"

        def run(program: str, *words: str) -> None:
            command = [str(programs / program), "-D", str(folder / "data"), *words]
            subprocess.run(command, check=True, user=USER, cwd=folder, stdout=subprocess.DEVNULL)

        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8")
        run("pg_ctl", "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            yield f"postgres://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


@contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """Another database on the server of that URL; its own URL."""
    name = f"switchyard_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield urlsplit(url)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run_tests(url: str) -> int:
    """Run pytest there; its exit code."""
    words = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    return subprocess.run(words, env={**os.environ, "DATABASE_URL": url}, check=False).returncode


def main() -> int:
    """Find a server, run the tests."""
    if url := os.environ.get("DATABASE_URL"):
        return run_tests(url)
    with server() as url:
        return run_tests(url)


if __name__ == "__main__":
    sys.exit(main())
