"""What a job says of its progress comes in only as a report, and of its result only what can be recorded."""

from __future__ import annotations

import math
from typing import Any

import pytest

from workers.compute.types import JobState, JobStatus
from workers.recipes.progress import Meter


def entered(report: Any) -> dict[str, Any]:
    return JobStatus(JobState.RUNNING, report).progress


def test_what_a_meter_reports_comes_in_as_it_is() -> None:
    meter = Meter(("read", "train"))
    meter.report("train", 0, 10, {}, now=1.0)
    report = meter.report("train", 4, 10, {"loss": 0.5, "eval_loss": 1.5}, now=3.0) | {"restarts": 2}
    assert entered(report) == report
    assert {"number", "percent", "rate", "seconds_left"} <= set(report)


@pytest.mark.parametrize(
    "change",
    [
        {"step": None},
        {"step": "<script>"},
        {"step": "a\u0000"},
        {"step": "\ud800"},
        {"step": "x" * 100},
        {"done": "3"},
        {"done": -1},
        {"total": math.inf},
        {"percent": math.nan},
        {"percent": 1e9},
        {"rate": []},
        {"seconds_left": "soon"},
        {"metrics": [1]},
        {"metrics": {"<b>": 1.0}},
        {"metrics": {f"m{number}": 1.0 for number in range(65)}},
        {"restarts": 1e400},
    ],
)
def test_anything_else_is_no_report(change: dict[str, Any]) -> None:
    assert entered({"step": "train", "done": 1, "total": 2, "metrics": {}} | change) == {}


@pytest.mark.parametrize("report", [{}, {"done": 1, "total": 2}, [], "train", None, 5])
def test_what_lacks_a_step_is_no_report(report: Any) -> None:
    assert entered(report) == {}


def test_a_loss_that_is_no_number_is_left_out_and_the_rest_counts() -> None:
    """Else a training that diverges would look as if it stood still."""
    report = {"step": "train", "done": 1, "total": 2, "metrics": {"loss": math.nan, "grad_norm": 2.0}, "more": "words"}
    assert entered(report) == {"step": "train", "done": 1, "total": 2, "metrics": {"grad_norm": 2.0}}


@pytest.mark.parametrize(
    "summary",
    [
        {"loss": math.nan},
        {"rows": [1, {"loss": -math.inf}]},
        {"note": "a\0b"},
        {"\ud800": 1},
        {"note": "\udcff"},
        [],
        "x",
        5,
    ],
)
def test_a_summary_that_nobody_can_record_is_a_failure_in_words(summary: Any) -> None:
    job = JobStatus.left({"state": "succeeded", "summary": summary}, {})
    assert (job.state, job.summary) == (JobState.FAILED, {})
    assert job.error


@pytest.mark.parametrize(
    "result",
    [
        {"state": "failed", "error": "No file \udcff\0."},
        {"state": "failed", "error": None},
        {"error": {}},
        {"state": []},
    ],
)
def test_whatever_a_job_left_it_has_failed_in_words_that_can_be_written(result: dict[str, Any]) -> None:
    job = JobStatus.left(result, {})
    assert job.state == JobState.FAILED
    assert job.error.encode()
    assert "\0" not in job.error


def test_the_rest_of_a_status_can_be_written_too() -> None:
    assert JobStatus(JobState.RUNNING, machine="H100\0", handle="\ud800").machine == "H100\N{REPLACEMENT CHARACTER}"
