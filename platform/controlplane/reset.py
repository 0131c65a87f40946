"""`python -m controlplane.reset [--yes]`: remove all that this installation has made, once nobody uses it."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.env import DATA, ROOT
from controlplane.supervisor import LOCK
from datasets_app.locks import held


class Refused(Exception):  # noqa: N818
    """Why nothing is removed."""


def main() -> int:
    """Say what goes, ask, and remove it; 1 where nothing was removed."""
    parser = argparse.ArgumentParser(description="Remove the data folder.")
    parser.add_argument("--yes", action="store_true", help="without asking")
    agreed = parser.parse_args().yes
    try:
        reset(agreed)
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def reset(agreed: bool) -> None:
    """Remove the data folder, holding what keeps processes from running in it meanwhile; Refused says why not."""
    if not DATA.is_dir():
        raise Refused(f"There is no {DATA}.")
    if any(path.is_relative_to(DATA) for path in (ROOT, Path.home())):
        raise Refused(f"{DATA} holds more than an installation's data.")
    with unused(LOCK), unused(DATA / "broker" / "lock"):
        for claim in DATA.glob("jobs/*/claim"):
            with unused(claim):
                pass  # nobody starts another job now
        print(f"In {DATA} there are:")
        for path in sorted(DATA.iterdir()):
            print(f"{size(path) / 1e6:10.1f} MB  {path.name}")
        print("Database, secrets, adapters and checkpoints among them are gone for good.", flush=True)
        if not agreed and answer("Remove all of it? [y/N] ") not in ("y", "yes"):
            raise Refused("Nothing was removed.")
        shutil.rmtree(DATA)
    print("Removed.")


@contextmanager
def unused(path: Path) -> Iterator[None]:
    """Hold the lock, if there is one; Refused if somebody else does."""
    try:
        with held(path):
            yield
    except BlockingIOError:
        what = f"The job {path.parent.name}" if path.name == "claim" else "The installation"
        raise Refused(f"{what} still runs in {DATA}: stop it first.") from None


def size(path: Path) -> int:
    """Bytes in a file or folder; links are not followed."""
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files)


def answer(question: str) -> str:
    """What somebody types; nothing where nobody can."""
    try:
        return input(question).strip().lower()
    except EOFError:
        print()
        return ""


if __name__ == "__main__":
    sys.exit(main())
