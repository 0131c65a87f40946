"""One small base, its adapters in a store, and an engine that holds their stack."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapters.backbone.loading import load_processor
from adapters.backbone.spec import BaseSpec, fingerprint
from adapters.card import AdapterCard
from adapters.store import Store
from inference.engines.base import Engine
from inference.engines.http import HttpEngine
from inference.engines.in_process import InProcessEngine
from inference.engines.modal.engine import ModalEngine
from inference.engines.remote import RemoteEngine
from inference.engines.types import AdapterRef, Request, StackSpec
from tests.inference.engines.activated import Activated, make_activated
from tests.inference.engines.served import await_health
from tests.inference.engines.small import EXPERTS, make_adapter, make_image, make_model, save_base
from tests.inference.engines.truth import Truth
from tests.modal_plane.app import deploy
from tests.modal_plane.plane import Plane

TOKEN = "engine-token"


class World(NamedTuple):
    """What a test needs of the shared fixtures."""

    base: BaseSpec
    processor: Any
    store: Store
    stack: StackSpec
    folders: dict[str, Path]

    @property
    def by_digest(self) -> dict[str, Path]:
        """The adapters' folders by digest."""
        return {ref.digest: self.folders[ref.name] for ref in (self.stack.router, *self.stack.experts)}

    def requests(self, count: int) -> list[Request]:
        """Requests of differing sizes, words and limits."""
        return [
            Request(
                self.stack.digest,
                make_image(i, 60 + 25 * (i % 4), 50 + 30 * (i % 3)),
                f"Do thing number {i * 7} now",
                4 + i % 5,
            )
            for i in range(count)
        ]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("engine")
    base = BaseSpec(str(save_base(root / "base")), device="cpu")
    processor = load_processor(base)
    mark = fingerprint(base)
    store = Store(root / "store")
    folders, refs = {}, {}
    expert = AdapterCard(kind="expert", base=mark, system="You click.", min_pixels=1024, max_pixels=9216)
    cards = dict.fromkeys(EXPERTS, expert)
    cards["an"] = expert.model_copy(update={"max_pixels": 4096, "human": "Task: {prompt}\n<image>", "system": None})
    cards["router"] = AdapterCard(
        kind="router",
        base=mark,
        system="You are a routing classifier.",
        min_pixels=1024,
        max_pixels=9216,
        human="<image>\nWhich adapter? {prompt}",
        labels=(*EXPERTS, "none"),
    )
    for name, card in cards.items():
        # The folder's name is the random weights' seed: this router names more than one expert.
        folder = root / ("r12" if name == "router" else name)
        folders[name] = make_adapter(lambda: make_model(processor), folder, card)
        refs[name] = AdapterRef(name, store.add(folders[name]).digest)
    stack = StackSpec(mark, refs["router"], tuple(refs[name] for name in EXPERTS))
    return World(base, processor, store, stack, folders)


@pytest.fixture(scope="session")
def cast(world: World, tmp_path_factory: pytest.TempPathFactory) -> Activated:
    """Activated and plain adapters on the world's base."""
    return make_activated(world, tmp_path_factory.mktemp("activated"))


@pytest.fixture(scope="session")
def truth(world: World) -> Truth:
    """Fresh bases with one adapter each."""
    return Truth(world.processor)


@pytest.fixture(scope="session")
def direct(world: World, truth: Truth) -> list[Request]:
    """Eight requests for an expert of the router's pixel budget, which are prepared once and join once."""
    asked = world.requests(24)
    return [request for request in asked if truth.route(world.folders["router"], request) == "bo"][:8]


@pytest.fixture(scope="session")
def engine(world: World) -> Iterator[InProcessEngine]:
    built = InProcessEngine.load(world.base, world.store.path)
    built.deploy(world.stack)
    yield built
    built.close()


@pytest.fixture(scope="session")
def server(world: World) -> Iterator[str]:
    """The URL of a real engine process on the same base and store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--base", world.base.path, "--device", "cpu", "--store", str(world.store.root), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "inference.server", *options, "--threads", "1"],
        env=os.environ | {"SWITCHYARD_ENGINE_TOKEN": TOKEN},
    )
    url = f"http://127.0.0.1:{port}"
    await_health(url, process, 90)
    yield url
    process.terminate()
    assert process.wait(20) == 0


@pytest.fixture(scope="session")
def remote(server: str) -> Iterator[RemoteEngine]:
    client = RemoteEngine(server, TOKEN)
    yield client
    client.close()


@pytest.fixture(scope="session")
def http(server: str, world: World) -> Iterator[HttpEngine]:
    """The same process, asked as an OpenAI server."""
    client = HttpEngine(server, TOKEN, str(world.store.root))
    yield client
    client.close()


@pytest.fixture(scope="session")
def on_modal(world: World, modal_plane: Plane) -> Iterator[ModalEngine]:
    """The deployed class on the loopback plane, with the same base on its volume; one container answers all tests."""
    names = {"APP": "engine", "CHECKPOINTS": "engine-adapters", "BASE": "engine-bases", "DATA": "engine-data"}
    shutil.copytree(world.base.path, modal_plane.volume(names["BASE"]) / "small")
    deploy(**{f"SWITCHYARD_MODAL_{name}": value for name, value in names.items()}, SWITCHYARD_BASE="base:small")
    built = ModalEngine(names["APP"], world.store, names["CHECKPOINTS"], deadline_s=600.0)
    yield built
    built.close()


@pytest.fixture(params=["engine", "remote", "http", "on_modal"])
def any_engine(request: pytest.FixtureRequest, world: World) -> Engine:
    """Each implementation of the seam in turn, with the stack deployed."""
    found: Engine = request.getfixturevalue(request.param)
    found.deploy(world.stack)
    return found
