"""One small base, its adapters in a store, and an engine that holds their stack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapters.card import AdapterCard
from adapters.store import Store
from inference.engines.in_process import InProcessEngine
from inference.engines.types import AdapterRef, Request, StackSpec
from tests.inference.engines.small import BASE, EXPERTS, make_adapter, make_image, make_model, make_processor


class World(NamedTuple):
    """What a test needs of the shared fixtures."""

    processor: Any
    store: Store
    stack: StackSpec
    folders: dict[str, Path]

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
    processor = make_processor()
    store = Store(root / "store")
    folders, refs = {}, {}
    expert = AdapterCard(kind="expert", base=BASE, system="You click.", min_pixels=1024, max_pixels=9216)
    cards = dict.fromkeys(EXPERTS, expert)
    cards["an"] = expert.model_copy(update={"max_pixels": 4096, "human": "Task: {prompt}\n<image>", "system": None})
    cards["router"] = AdapterCard(
        kind="router",
        base=BASE,
        system="You are a routing classifier.",
        min_pixels=1024,
        max_pixels=9216,
        human="<image>\nWhich adapter? {prompt}",
        labels=(*EXPERTS, "none"),
    )
    for name, card in cards.items():
        folders[name] = make_adapter(lambda: make_model(processor), root / name, card)
        refs[name] = AdapterRef(name, store.add(folders[name]).digest)
    stack = StackSpec(BASE, refs["router"], tuple(refs[name] for name in EXPERTS))
    return World(processor, store, stack, folders)


@pytest.fixture(scope="session")
def engine(world: World) -> Iterator[InProcessEngine]:
    built = InProcessEngine(make_model(world.processor), world.processor, BASE, world.store.path)
    built.deploy(world.stack)
    yield built
    built.close()
