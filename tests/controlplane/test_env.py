"""The settings that come from the environment."""

from __future__ import annotations

from controlplane.env import env
from workers.recipes.train import Spec
from workers.remote.serving import Serving


def test_jobs_the_engine_and_modal_compute_in_the_same_precision() -> None:
    assert env.scheme["SWITCHYARD_DTYPE"][1] == Serving().dtype == Spec.model_fields["dtype"].default
