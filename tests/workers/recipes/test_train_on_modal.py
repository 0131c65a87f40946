"""Training on Modal, on a machine that is taken away."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from tests.modal_plane.plane import Plane
from workers.compute.modal import ModalCompute
from workers.compute.types import JobSpec, JobState
from workers.remote.places import work_folder

HARDLY = {"max_steps": 5, "eval_every": 1, "warmup_steps": 0, "rank": 4}
HARDLY |= {"batch_size": 4, "micro_batch_size": 4, "val_samples": 4}


def test_a_preempted_training_goes_on_from_its_checkpoint_under_the_same_call(
    plane: Plane, modal_app: str, prepared_folder: Path, tmp_path: Path
) -> None:
    compute, key = ModalCompute(str(tmp_path), app=modal_app), uuid.uuid4().hex
    spec = {"data": str(prepared_folder), "threads": 1, **HARDLY}
    handle = compute.submit(JobSpec("train", key, key, spec))
    call = plane.call(handle.partition("/")[2])
    sealed = plane.volume("moe-lora-data") / work_folder(key) / "sealed"
    deadline = time.monotonic() + 300
    while not list(sealed.glob("checkpoint-*/manifest.json")):
        assert time.monotonic() < deadline and call.output is None, plane.machines.started[-1].log.read_text()
        time.sleep(0.02)
    plane.preempt(call.id)
    plane.wait(call.id)
    ended = compute.poll(handle)
    assert ended.state == JobState.SUCCEEDED, ended.error
    assert ended.summary["resumed_from"].startswith("checkpoint-")
    assert (ended.handle, ended.progress["restarts"], call.starts) == ("", 1, 2)
    assert (compute.outputs(handle) / "final" / "adapter_model.safetensors").is_file()
