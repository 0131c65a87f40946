"""When memory runs out: what fits goes on, what has grown shrinks again, and nothing is left half-done."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.base import EngineBusy, EngineError
from inference.engines.in_process import worker
from inference.engines.in_process.keys_values import KeysValues
from inference.engines.in_process.lora import SlotLinear
from inference.engines.types import AdapterRef, Request, StackedResult, StackSpec, StreamEvent, TextDelta
from tests.inference.engines.running import eventually, expected, running
from tests.inference.engines.small import make_adapter, make_model
from tests.inference.engines.truth import Truth


def test_too_little_memory_halves_the_batch_and_goes_on(world: Any, truth: Truth) -> None:
    requests = [replace(request, max_tokens=12) for request in world.requests(8)]
    right = [expected(world, truth, request) for request in requests]
    prefill, step = worker.prefill, worker.step

    def scarce_prefill(model: Any, batch: Any) -> Any:
        if len(batch.ids) > 4:
            raise torch.OutOfMemoryError
        return prefill(model, batch)

    def scarce_step(model: Any, tokens: Any, positions: Any, kept: Any) -> Any:
        if len(tokens) > 3:
            raise torch.OutOfMemoryError
        return step(model, tokens, positions, kept)

    with running(world, batch=8) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "prefill", scarce_prefill)
        patch.setattr(worker, "step", scarce_step)
        results = engine.infer_many(requests)
        assert engine.status()["batch"] in (2, 3)
        patch.setattr(worker, "prefill", lambda *_: scarce_step(None, [0] * 9, None, None))
        with pytest.raises(EngineError, match="model step failed: OutOfMemoryError"):
            engine.infer(requests[0])
    assert [(result.decision.label, result.text) for result in results] == right


def test_one_request_that_is_too_large_fails_alone(world: Any) -> None:
    requests = world.requests(8)
    requests[3] = replace(requests[3], prompt="much longer than all others " * 20)
    prefill = worker.prefill

    def scarce(model: Any, batch: Any) -> Any:
        if batch.ids.shape[1] > 300:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return prefill(model, batch)

    with running(world, batch=8) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "prefill", scarce)
        futures = [engine.submit_infer(request) for request in requests]
        failed = [number for number, future in enumerate(futures) if future.exception()]
    assert failed in ([3], [])  # none if its router meant no expert


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_memory_that_runs_out_is_known_by_all_its_names(error: Exception) -> None:
    assert worker.is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        ValueError("The adapter's name is CUDA error: out of memory"),
    ],
    ids=str,
)
def test_an_error_that_stays_is_no_lack_of_memory(error: Exception) -> None:
    assert not worker.is_out_of_memory(error)


def test_memory_of_another_name_halves_the_batch_and_fails_a_request_alone(world: Any) -> None:
    prefill, asked = worker.prefill, []

    def scarce(model: Any, batch: Any) -> Any:
        asked.append(len(batch.ids))
        if len(batch.ids) > most:
            raise torch.AcceleratorError("CUDA error: out of memory")
        return prefill(model, batch)

    requests = [replace(request, prompt="Go.") for request in world.requests(8)]
    with running(world, batch=8) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "prefill", scarce)
        most = 2
        assert len(engine.infer_many(requests)) == 8
        assert max(asked) > 2
        most = 0
        with pytest.raises(EngineError, match="model step failed: AcceleratorError"):
            engine.infer(requests[0])
        assert engine._worker.failures == 0


def test_what_the_failed_pass_held_is_free_when_the_halves_are_tried(world: Any) -> None:
    prefill, made, alive = worker.prefill, [], []

    def scarce(model: Any, batch: Any) -> Any:
        alive.extend(reference() is not None for reference in made)
        if len(batch.ids) > 2:
            made.append(weakref.ref(batch.ids))
            raise torch.OutOfMemoryError
        return prefill(model, batch)

    with running(world, batch=8) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "prefill", scarce)
        engine.infer_many(world.requests(8))
    assert made
    assert not any(alive)


def test_a_batch_that_was_halved_grows_again(world: Any) -> None:
    step, calls = worker.step, []

    def scarce(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError
        return step(*arguments)

    with running(world, batch=8) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "step", scarce)
        patch.setattr(worker, "CALM", 5)
        engine.infer_many([replace(request, max_tokens=40) for request in world.requests(8)])
        assert engine.status()["batch"] == 8


def test_room_for_rows_that_have_left_is_not_made_longer() -> None:
    kept, layers = KeysValues(), [(torch.ones(8, 2, 200, 4), torch.ones(8, 2, 200, 4))]
    for row in range(8):
        kept.join(DynamicCache(layers), row, 200)
    assert kept.nbytes == 2 * 4 * 8 * 2 * 256 * 4
    for row in reversed(range(2, 8)):
        kept.leave(row)
    for _ in range(60):
        kept.begin(torch.device("cpu"), torch.float32)
        keys, _ = kept.update(torch.full((2, 2, 1, 4), 7.0), torch.zeros(2, 2, 1, 4), 0)
        kept.finish()
    assert kept.nbytes == 2 * 4 * 2 * 2 * 512 * 4
    assert keys[:, :, :200].eq(1).all()
    assert keys[:, :, 200:].eq(7).all()
    kept.join(DynamicCache(layers), 5, 200)
    assert kept.lengths == [260, 260, 200]


class Scarce(torch.Tensor):
    """Of which only so many can be made."""

    left = 0

    def new_zeros(self, *size: Any, **options: Any) -> torch.Tensor:
        type(self).left -= 1
        if type(self).left < 0:
            raise torch.OutOfMemoryError
        return super().new_zeros(*size, **options)


@pytest.mark.parametrize("fits", range(6))
@pytest.mark.parametrize("tokens", [200, 300])
def test_room_that_could_not_be_made_everywhere_is_made_later(fits: int, tokens: int) -> None:
    """Of three layers' keys and values, whether there would be more rows or, of fewer rows, more tokens."""
    prompts = DynamicCache([(torch.full((4, 2, 300, 4), 1.0 + layer),) * 2 for layer in range(3)])  # type: ignore[misc]
    kept = KeysValues()
    for row in range(4):
        kept.join(prompts, row, 200)
    if tokens > 256:
        for row in (3, 2, 1):
            kept.leave(row)
    for parts in (kept._keys, kept._values):
        parts[:] = [part.as_subclass(Scarce) for part in parts]
    Scarce.left = fits
    with pytest.raises(torch.OutOfMemoryError):
        kept.join(prompts, 0, tokens)
    Scarce.left = 1000
    lengths = [*kept.lengths, *range(200, 208)]
    for length in lengths[len(kept.lengths) :]:
        kept.join(prompts, 0, length)
    assert kept.lengths == lengths
    kept.begin(torch.device("cpu"), torch.float32)
    for layer in range(3):
        told = torch.full((len(kept.lengths), 2, 1, 4), 9.0)
        for part in kept.update(told, told, layer):
            for row, length in enumerate(kept.lengths):
                assert part[row, :, :length].eq(1.0 + layer).all()
                assert part[row, :, length].eq(9).all()


def test_no_room_is_kept_for_nobody() -> None:
    kept, prompts = KeysValues(), DynamicCache([(torch.ones(2, 2, 300, 4), torch.ones(2, 2, 300, 4))])
    for _ in range(2):
        for row in range(2):
            kept.join(prompts, row, 300)
        for _ in range(2):
            assert kept.nbytes
            kept.leave(0)
        assert kept.nbytes == 0


def test_who_joins_after_memory_ran_out_is_answered(world: Any, truth: Truth) -> None:
    requests = [replace(request, max_tokens=12) for request in world.requests(8)]
    right = [expected(world, truth, request) for request in requests]
    new_zeros, asked = torch.Tensor.new_zeros, []

    def scarce(self: torch.Tensor, *size: Any, **options: Any) -> torch.Tensor:
        if len(size) == 4 and size[0] > 1:  # room for more rows than one
            asked.append(size)
            if len(asked) in (3, 9):
                raise torch.OutOfMemoryError
        return new_zeros(self, *size, **options)

    with running(world, batch=8) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "new_zeros", scarce)
        results = engine.infer_many(requests)
    assert len(asked) > 9
    assert [(result.decision.label, result.text) for result in results] == right


@pytest.mark.parametrize("function", ["look", "name_log_likelihoods", "prefill", "new_zeros"])
def test_who_finds_no_memory_beside_others_waits_for_it(
    world: Any, truth: Truth, direct: list[Request], function: str
) -> None:
    """In whichever pass, and where the room for one more row cannot be made: it is answered, as are those behind it."""
    requests = [replace(request, max_tokens=12) for request in direct]
    right = [expected(world, truth, request) for request in requests]
    where = torch.Tensor if function == "new_zeros" else worker
    original, step, lacks, queued = getattr(where, function), worker.step, [], threading.Event()
    told: list[list[str]] = [[] for _ in requests]

    def ask(number: int) -> Future[StackedResult]:
        def listen(event: StreamEvent) -> None:
            if isinstance(event, TextDelta):
                told[number].append(event.text)

        return engine.submit_stream(requests[number], listen)

    def scarce_room(self: torch.Tensor, *size: Any, **options: Any) -> Any:
        if len(size) == 4 and size[0] > 1:
            lacks.append(1)
            if len(lacks) % 5 == 0:  # of three layers' keys and values: when most have been made
                raise torch.OutOfMemoryError
        return original(self, *size, **options)

    def scarce_pass(*arguments: Any) -> Any:
        if engine._worker.running:
            lacks.append(1)
            raise torch.OutOfMemoryError
        return original(*arguments)

    with running(world, batch=8, joining=2, steps=1) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, function, scarce_room if function == "new_zeros" else scarce_pass)
        patch.setattr(worker, "step", lambda *arguments: queued.wait(20) and step(*arguments))
        futures = [ask(0)]
        eventually(lambda: engine._worker.running)
        futures += [ask(number) for number in range(1, 8)]
        eventually(lambda: engine.status()["waiting"] == 7)
        queued.set()
        results = [future.result() for future in futures]
        assert engine.status()["batch"] in (1, 2)
    assert len(lacks) > (4 if function == "new_zeros" else 0)
    assert [(result.decision.label, result.text) for result in results] == right
    assert ["".join(texts) for texts in told] == [text for _, text in right]


def test_rows_that_have_left_give_their_room_back_before_anybody_fails(world: Any, truth: Truth) -> None:
    requests = [replace(request, max_tokens=12) for request in world.requests(8)]
    right = [expected(world, truth, request) for request in requests]
    step, rooms = worker.step, []

    def scarce(model: Any, tokens: Any, positions: Any, kept: KeysValues) -> Any:
        rooms.append(kept.nbytes)
        if kept.nbytes > rooms[0] // 4:
            raise torch.OutOfMemoryError
        return step(model, tokens, positions, kept)

    with running(world, batch=8) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "step", scarce)
        results = engine.infer_many(requests)
    assert [(result.decision.label, result.text) for result in results] == right


def test_who_waits_for_memory_may_leave_and_has_a_deadline(world: Any) -> None:
    request = replace(world.requests(1)[0], max_tokens=3900)
    names, free = worker.name_log_likelihoods, threading.Event()

    def scarce(*arguments: Any) -> Any:
        if engine._worker.running and not free.is_set():
            raise torch.OutOfMemoryError
        return names(*arguments)

    with running(world, batch=4) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "name_log_likelihoods", scarce)
        under_way = engine.submit_infer(request)
        eventually(lambda: engine._worker.running)
        left, late, patient = (engine.submit_route(request) for _ in range(3))
        eventually(lambda: len(engine._worker.returning) == 3)
        assert engine.status()["waiting"] == 3
        next(job for job in engine._worker.returning if job.future is late).deadline = 0.0
        assert left.cancel()
        with pytest.raises(EngineBusy, match="waited"):
            late.result(20)
        assert under_way.cancel()
        assert patient.result(20).label
        eventually(lambda: {resident.pins for resident in engine._pool._residents.values()} == {1})


def larger(world: Any, folder: Path, rank: int) -> StackSpec:
    """The stack with one expert of that rank."""
    card, name = AdapterCard.read(world.folders["bo"]), world.stack.experts[0].name
    stored = world.store.add(make_adapter(lambda: make_model(world.processor), folder, card, r=rank))
    return replace(world.stack, experts=(AdapterRef(name, stored.digest), *world.stack.experts[1:]))


def test_a_larger_adapter_is_deployed_while_others_answer(world: Any, truth: Truth, tmp_path: Path) -> None:
    requests = [replace(request, max_tokens=60) for request in world.requests(8)]
    right = [expected(world, truth, request) for request in requests]
    stack = larger(world, tmp_path / "larger", 48)
    begun, deployed, step, answering = threading.Event(), threading.Event(), worker.step, []

    def slow(*arguments: Any) -> Any:
        answering.append((len(arguments[1]), deployed.is_set()))
        if len(arguments[1]) > 3:
            begun.set()
        if begun.is_set():
            deployed.wait(0.1)
        return step(*arguments)

    with running(world, batch=8) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "step", slow)
        futures = [engine.submit_infer(request) for request in requests]
        assert begun.wait(20)
        engine.deploy(stack)
        deployed.set()
        results = [future.result() for future in futures]
    assert any(rows > 1 and after for rows, after in answering)
    assert [(result.decision.label, result.text) for result in results] == right


def test_a_deploy_that_runs_out_of_memory_leaves_room_for_smaller_ones(world: Any, tmp_path: Path) -> None:
    large, small = larger(world, tmp_path / "large", 48), larger(world, tmp_path / "small", 3)
    resize, calls = SlotLinear.resize, []

    def scarce(self: SlotLinear, slots: int, rank: int) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise torch.OutOfMemoryError
        resize(self, slots, rank)

    with running(world) as engine:
        before = engine.infer(world.requests(1)[0])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SlotLinear, "resize", scarce)
            with pytest.raises(EngineError, match=f"Adapter '{large.experts[0].name}': .*OutOfMemoryError"):
                engine.deploy(large)
        engine.deploy(small)
        assert engine.infer(world.requests(1)[0]).text == before.text
        engine.deploy(large)


def test_what_the_base_cannot_attend_to_is_refused(world: Any) -> None:
    request = world.requests(1)[0]
    with running(world) as engine:
        with pytest.raises(InputError, match=r"The prompt has \d+ tokens and its answer may have \d+: more than"):
            engine.infer(replace(request, prompt="x" * 4500))
        with pytest.raises(InputError, match="its answer may have 4096"):
            engine.infer(replace(request, max_tokens=4096))


def test_a_router_answers_a_name_however_long_its_expert_s_answer_may_be(world: Any, truth: Truth) -> None:
    request = replace(world.requests(1)[0], max_tokens=4096)
    with running(world) as engine:
        assert engine.route(request).label == truth.route(world.folders["router"], request)
        length = len(
            engine._runner.prompts.ids(AdapterCard.read(world.folders["router"]), "", torch.tensor([[1, 4, 6]]))
        )
        with pytest.raises(InputError, match=r"its answer may have 4: more than"):
            engine.route(replace(request, prompt="x" * (4096 - length - 2)))
