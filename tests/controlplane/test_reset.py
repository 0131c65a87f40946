"""`make reset` and `make clean`: what goes, what stays, and who is asked."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.env import ROOT


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder with something in it, whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "var"
        (data / "store").mkdir(parents=True)
        (data / "store" / "weights").write_bytes(bytes(2_500_000))
        yield data


def run(data: Path, module: str, *words: str, **variables: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", f"controlplane.{module}", *words],
        env={**os.environ, "PYTHONPATH": path, "SWITCHYARD_DATA": str(data), **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def reset(data: Path, *words: str, said: str = "", **variables: str) -> tuple[int, str, str]:
    process = run(data, "reset", *words, **variables)
    out, err = process.communicate(said, timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("said", ["", "n\n", "\n"])
def test_nothing_goes_without_a_yes(data: Path, said: str) -> None:
    code, out, err = reset(data, said=said)
    assert (code, err) == (1, "Nothing was removed.\n")
    assert "2.5 MB  store" in out
    assert (data / "store" / "weights").exists()


@pytest.mark.parametrize(("words", "said"), [(("--yes",), ""), ((), "y\n")])
def test_all_goes_with_one(data: Path, words: tuple[str, ...], said: str) -> None:
    code, out, _ = reset(data, *words, said=said)
    assert (code, data.exists()) == (0, False)
    assert "secrets.env" in out


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ("supervisor.lock", "The installation still runs"),
        ("broker/lock", "The installation still runs"),
        ("jobs/abc/claim", "The job abc still runs"),
    ],
)
def test_nothing_goes_while_anything_runs(data: Path, lock: str, words: str) -> None:
    (data / lock).parent.mkdir(parents=True, exist_ok=True)
    with (data / lock).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        code, _, err = reset(data, "--yes")
    assert (code, data.exists()) == (1, True)
    assert words in err
    assert reset(data, "--yes")[0] == 0


def test_a_supervisor_is_noticed_and_starts_nothing_in_a_folder_that_goes(data: Path) -> None:
    supervisor = run(data, "supervisor", "broker")
    try:
        deadline = time.monotonic() + 30
        while not (data / "supervisor.lock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert supervisor.stdout is not None
        while reset(data)[2] == "Nothing was removed.\n":  # it has made its lock, and takes it
            assert time.monotonic() < deadline
        assert "still runs" in reset(data, "--yes")[2]
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.communicate(timeout=60)
    with (data / "supervisor.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        late = run(data, "supervisor", "broker")
        assert "is being removed" in late.communicate(timeout=60)[1]
    assert late.returncode == 1


def test_a_folder_with_more_than_data_stays(data: Path) -> None:
    """As where somebody's home was given for it."""
    home = data / "store"
    code, _, err = reset(data, "--yes", HOME=str(home))
    assert (code, home.exists()) == (1, True)
    assert "more than an installation's data" in err


def test_clean_removes_caches_alone(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = ["var/db.sqlite3", "var/__pycache__/x", ".venv/lib/__pycache__/x", "workers/a.py"]
    gone = [".mypy_cache/x", ".pytest_cache/x", "workers/__pycache__/x", "platform/a/__pycache__/x"]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [name for name in kept + gone if (tmp_path / name).exists()] == kept
