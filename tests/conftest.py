"""What all tests share."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datasets_app.formats import screens
from datasets_app.formats.digest import file_digest
from datasets_app.formats.duplicates import Hashes, perceptual_hashes
from datasets_app.samples.source import write_source
from datasets_app.text import plain
from tests.modal_plane.app import deploy

if TYPE_CHECKING:
    from tests.modal_plane.plane import Plane

SAMPLES = {"calendar": 80, "claim-window": 80, "provider-select": 80, "other": 80}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files marked as long go first."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was logged may hold lone surrogates, which a report cannot carry from one process to another."""
    report = yield
    report.sections = [(name, plain(text)) for name, text in report.sections]
    return report


@pytest.fixture(scope="session", autouse=True)
def hash_once() -> Iterator[None]:
    """Hash each picture once in the session: the samples are registered again and again."""
    hashed: dict[str, Hashes] = {}

    def remembered(path: Path) -> Hashes:
        content = file_digest(path)
        if content not in hashed:
            hashed[content] = perceptual_hashes(path)
        return hashed[content]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screens, "perceptual_hashes", remembered)
        yield


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small source dataset of each kind of sample screen."""
    root = tmp_path_factory.mktemp("samples")
    return {kind: write_source(kind, root / kind, count, seed=7) for kind, count in SAMPLES.items()}


@pytest.fixture
def modal_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account of Modal's that nobody asks."""
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-1")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-1")


@pytest.fixture
def no_modal_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """No account of Modal's, whatever other tests in this process ask."""
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def modal_plane() -> Iterator[Plane]:
    """The loopback control plane, which this process's modal client talks to from then on."""
    from tests.modal_plane.plane import running_plane

    with running_plane() as plane:
        yield plane


@pytest.fixture
def plane(modal_plane: Plane) -> Iterator[Plane]:
    """The same, with every fault switched off before and after."""
    modal_plane.faults.clear()
    yield modal_plane
    modal_plane.faults.clear()


@pytest.fixture(scope="session")
def modal_app(modal_plane: Plane) -> str:
    """The product's app, deployed by the modal CLI; its name."""
    deploy()
    return "switchyard"
