"""Launching, watching and cancelling in the admin."""

from __future__ import annotations

import html
import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from adapters.models import Alias, Promotion
from adapters.services import build_stack, switch_champion
from adapters.switch import Switch
from tests.cast import (
    EXPERTS,
    make_champion,
    make_experts,
    make_routing_dataset,
    make_run,
    make_version,
)
from workers.models import Pipeline, Run
from workers.states import Status

RUNS, PIPELINES = "/admin/workers/run/", "/admin/workers/pipeline/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(client: Client) -> Client:
    """May do everything."""
    client.force_login(User.objects.create_superuser("root"))
    return client


def act(client: Client, page: str, action: str, *rows: Any) -> list[str]:
    """Do an action on rows; what the page says afterwards."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    response = client.post(page, data, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


def test_adding_a_run_launches_it(root: Client) -> None:
    """Through the service."""
    dataset = make_routing_dataset()
    data = {"kind": "preprocess", "name": "", "params": json.dumps({"dataset": dataset.name})}
    assert root.post(f"{RUNS}add/", data).status_code == 302
    run = Run.objects.get()
    assert (run.kind, run.status, run.params["dataset"]) == ("preprocess", Status.QUEUED, dataset.name)
    assert run.created_by == User.objects.get()


@pytest.mark.usefixtures("no_modal_token")
def test_forms_estimate_for_backends_that_are_set_up_and_for_what_will_happen(root: Client) -> None:
    """An expert that brings its files is not trained."""
    made = make_run("t", Status.SUCCEEDED, kind="train")
    made.attempts.create(number=1, seconds=50, ended_at=timezone.now())
    for kind in ("generate_dataset", "preprocess", "evaluate"):
        run = make_run(kind, Status.SUCCEEDED, kind=kind)
        run.attempts.create(number=1, seconds=1, ended_at=timezone.now())
    shown = root.get(f"{PIPELINES}add/").content.decode()
    assert "on modal" not in shown
    assert "add_expert, with its files: on local about 54 s" in shown
    assert "add_expert, which is trained first: on local about 1.75 min" in shown


@pytest.mark.usefixtures("modal_token")
def test_a_job_runs_where_the_form_says(root: Client) -> None:
    """Each step of a pipeline, too, but for those that run here alone; said with what each place will take."""
    dataset = make_routing_dataset()
    make_experts()
    wish = {"kind": "preprocess", "name": "there", "params": json.dumps({"dataset": dataset.name}), "backend": "modal"}
    assert root.post(f"{RUNS}add/", wish).status_code == 302
    assert Run.objects.get(name="there").backend == "modal"
    wish = {"name": "first", "kind": "router", "adapters": EXPERTS, "backend": "modal"}
    assert root.post(f"{PIPELINES}add/", wish).status_code == 302
    assert {run.backend for run in Pipeline.objects.get().steps} == {"modal"}
    for page in (RUNS, PIPELINES):
        shown = root.get(f"{page}add/").content.decode()
        assert "evaluate: on local no earlier run to go by; on modal at most" in shown
        refused = root.post(f"{page}add/", {**wish, "backend": "nowhere"})
        assert "nowhere is not one of the available choices" in refused.content.decode()


NO_OBJECTS = [
    "[1]",
    '"x"',
    "5",
    "null",
    "nonsense",
    '{"seed": 1, "seed": 2}',
    "[" * 100_000,
    '{"seed": ' + "9" * 5000 + "}",
]
NOBODY_TAKES = [
    '{"seed": NaN}',
    '{"seed": 1e400}',
    r'{"seed": "a\u0000"}',
    r'{"\ud800": 1}',
    r'{"seed": [{"a": "\udfff"}]}',
]


@pytest.mark.parametrize("params", ['{"dataset": "nobody"}', "{}", '{"dataset": 5}', *NO_OBJECTS, *NOBODY_TAKES])
def test_a_wrong_wish_is_explained(root: Client, params: str) -> None:
    """And nothing is launched."""
    response = root.post(f"{RUNS}add/", {"kind": "preprocess", "name": "my-run", "params": params})
    assert response.status_code == 200
    form = response.context["adminform"].form
    assert list(form.errors) == ["params"]
    shown = html.unescape(response.content.decode())
    assert "my-run" in shown and params in shown
    assert not Run.objects.exists()


def test_adding_a_pipeline_launches_it(root: Client) -> None:
    """With its parameters."""
    make_experts()
    data = {"name": "first", "adapters": EXPERTS, "samples_per_class": 5, "seed": 1}
    data |= {"router": "router", "train": '{"rank": 4}', "activated": "yes"}
    response = root.post(f"{PIPELINES}add/", data)
    assert response.status_code == 302, response.content.decode()[:3000]
    pipeline = Pipeline.objects.get()
    assert [run.kind for run in pipeline.steps] == ["generate_dataset", "preprocess", "train", "evaluate"]
    assert pipeline.steps[0].params["samples_per_class"] == 5
    assert pipeline.steps[2].params["config"] == {"rank": 4, "activated": True}


@pytest.mark.parametrize("train", [text for text in (*NO_OBJECTS, *NOBODY_TAKES) if text != "null"])
def test_what_is_no_object_in_json_is_shown_again_with_the_reason(root: Client, train: str) -> None:
    """In any form that takes JSON."""
    make_experts()
    pages = {
        PIPELINES: {"name": "first", "kind": "router", "adapters": EXPERTS, "train": train},
        RUNS: {"kind": "train", "params": train},
    }
    for page, data in pages.items():
        response = root.post(f"{page}add/", data)
        assert response.status_code == 200
        shown = html.unescape(response.content.decode())
        assert train in shown
        assert any(words in shown for words in ("is needed here", "The JSON", "not valid JSON", "occurs twice"))
    assert not Pipeline.objects.exists()
    assert not Run.objects.exists()


def test_runs_and_pipelines_are_cancelled(root: Client) -> None:
    """Those that are over stay as they are."""
    queued, over = make_run("a"), make_run("b", Status.SUCCEEDED)
    said = act(root, RUNS, "cancel_runs", queued, over)
    assert "b: It is over (succeeded): nothing was cancelled." in str(said)
    assert set(Run.objects.values_list("name", "status")) == {("a", "cancelled"), ("b", "succeeded")}
    pipeline = Pipeline.objects.create(name="p")
    make_run("c", pipeline=pipeline)
    act(root, PIPELINES, "cancel_pipelines", pipeline)
    assert Run.objects.get(name="c").status == Status.CANCELLED


def test_nobody_edits_or_deletes_a_run(root: Client) -> None:
    """A run is a record."""
    run = make_run()
    assert root.post(f"{RUNS}{run.pk}/change/", {"status": "succeeded"}).status_code == 403
    assert root.post(f"{RUNS}{run.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Run.objects.get().status == Status.QUEUED


def test_progress_is_polled(root: Client) -> None:
    """For the runs that are asked about."""
    run = make_run(status=Status.RUNNING, progress={"step": "train", "done": 1, "total": 4, "metrics": {"loss": 0.5}})
    shown = root.get(f"{RUNS}progress/?ids={run.pk},99").json()
    expected = {"status": "running", "over": False, "percent": 25, "words": "train 1/4 · loss 0.5"}
    assert shown == {str(run.pk): expected}


def test_a_restart_after_a_preemption_is_shown(root: Client) -> None:
    """Beside the count."""
    run = make_run(status=Status.RUNNING, progress={"step": "train", "done": 1, "total": 4, "restarts": 2})
    assert root.get(f"{RUNS}progress/?ids={run.pk}").json()[str(run.pk)]["words"] == "train 1/4 · restarted 2×"


@pytest.mark.parametrize("ids", ["", "x", "1,", "-1", "٣", "9" * 30, ",".join(["1"] * 201)])
def test_progress_of_nonsense_is_refused(root: Client, ids: str) -> None:
    """400."""
    assert root.get(f"{RUNS}progress/", {"ids": ids}).status_code == 400


def test_the_log_is_plain_text(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the job wrote."""
    monkeypatch.setattr("workers.admin.runs.log_tail", lambda run: "<script>")
    response = root.get(f"{RUNS}{make_run().pk}/log/")
    assert response.content == b"<script>"
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"


def test_pipelines_are_launched_from_adapters(root: Client) -> None:
    """A router between the selected experts; each selected expert."""
    calendar, window = (version.adapter for version in make_experts())
    act(root, "/admin/adapters/adapter/", "train_router", calendar, window)
    assert Run.objects.get(kind="generate_dataset").params["adapters"] == ["calendar", "claim-window"]
    act(root, "/admin/adapters/adapter/", "train_experts", calendar)
    assert Pipeline.objects.count() == 2


def test_what_cannot_be_launched_is_explained(root: Client) -> None:
    """A router is no expert."""
    router = make_champion().router
    (message,) = act(root, "/admin/adapters/adapter/", "train_router", router.adapter)
    assert "only experts are routed to" in message
    (message,) = act(root, "/admin/adapters/adapterversion/", "evaluate", router)
    assert "imported" in message
    assert not Run.objects.exists()


def test_datasets_are_preprocessed(root: Client) -> None:
    """Those selected."""
    dataset = make_routing_dataset()
    act(root, "/admin/datasets_app/routingdataset/", "preprocess", dataset)
    act(root, "/admin/datasets_app/sourcedataset/", "preprocess", dataset.sources.get(name="calendar"))
    assert set(Run.objects.values_list("params__dataset", flat=True)) == {dataset.name, "calendar"}


def test_versions_are_evaluated_on_what_they_were_trained_from(root: Client) -> None:
    stack, dataset = make_champion(), make_routing_dataset()
    make_run("train-1", Status.SUCCEEDED, kind="train", adapter_version=stack.router, params={"dataset": dataset.name})
    act(root, "/admin/adapters/adapterversion/", "evaluate", stack.router)
    assert Run.objects.get(kind="evaluate").params["run"] == "train-1"


def test_a_router_goes_live_by_a_dialog_that_asks_for_the_reason_where_the_rule_refuses(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for the classes to drop."""
    monkeypatch.setattr(
        "inference.services.get_engine", lambda: type("Engine", (), {"deploy": lambda self, stack: None})()
    )
    serving = make_champion()
    router = make_version(serving.router.adapter, ("calendar",))
    versions = "/admin/adapters/adapterversion/"
    url = reverse("admin:adapters_adapterversion_promote_router", args=[router.pk])
    assert url in root.get(versions).content.decode()
    assert "force_reason" in root.get(url).content.decode()

    def put_live(**fields: str) -> HttpResponse:
        return root.post(url, {"_form_submitted": "on", "drop": "", "force_reason": "", **fields})

    assert "was never evaluated" in put_live().content.decode()
    refused = put_live(drop="claim-window, nothing").content.decode()
    assert "is no class that serves" in refused and 'value="claim-window, nothing"' in refused
    assert Alias.objects.get().stack == serving
    assert put_live(drop="claim-window", force_reason="The window is gone.")["HX-Redirect"] == versions
    assert Alias.objects.get().stack.router == router
    assert "Forced: The window is gone." in root.get("/admin/adapters/promotion/").content.decode()


def test_a_router_and_what_serves_are_evaluated_with_their_experts(root: Client) -> None:
    """On the dataset that the router was trained from; what serves but once for several routers of one dataset."""
    serving, dataset = make_champion(), make_routing_dataset()
    routers = [make_version(serving.router.adapter, EXPERTS) for _ in range(2)]
    for router in routers:
        made = {"kind": "train", "adapter_version": router, "params": {"dataset": dataset.name}}
        make_run(f"train-{router.number}", Status.SUCCEEDED, **made)
    said = act(root, "/admin/adapters/adapterversion/", "compare", *routers, serving.experts.all()[0])
    assert [("select routers" in words) for words in said].count(True) == 1
    asked = Run.objects.filter(kind="evaluate").order_by("id").values_list("params", flat=True)
    assert all(params["stack"] and params["dataset"] == dataset.name for params in asked)
    assert sorted((params["run"] or "", params["serving"]) for params in asked) == [
        ("", True), ("train-2", False), ("train-3", False),
    ]  # fmt: skip


def test_actions_need_their_permission(client: Client) -> None:
    """Who may look may not launch."""
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["view_run", "view_routingdataset"]))
    client.force_login(clerk)
    dataset, run = make_routing_dataset(), make_run()
    act(client, "/admin/datasets_app/routingdataset/", "preprocess", dataset)
    act(client, RUNS, "cancel_runs", run)
    assert client.get(f"{RUNS}add/").status_code == 403
    assert [row.status for row in Run.objects.all()] == [Status.QUEUED]


def test_progress_says_how_far_how_fast_and_how_long(root: Client) -> None:
    """Of a job of several steps; nothing of it lies in the page alone."""
    from workers.recipes.progress import Meter

    meter = Meter(("read", "write"))
    meter.report("write", 0, 100, {}, now=10.0)
    progress = meter.report("write", 20, 100, {"loss": 0.5}, now=20.0)
    run = make_run(status=Status.RUNNING, progress=progress)
    shown = root.get(f"{RUNS}progress/?ids={run.pk}").json()[str(run.pk)]
    assert shown["percent"] == 60
    assert shown["words"] == "write 20/100 · step 2 of 2 · 2/s · 40 s left · loss 0.5"
    assert "40 s left" in root.get(f"{RUNS}{run.pk}/change/").content.decode()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (90_000, "1 d 1 h")]
)
def test_time_left_in_two_units(seconds: float, text: str) -> None:
    """As people say it."""
    from workers.admin.progress import duration

    assert duration(seconds) == text


def test_an_expert_is_added_by_a_form(root: Client, tmp_path: Any, samples: Any) -> None:
    """And refused with the reason where its files are wrong."""
    make_champion()
    data = {"kind": "add_expert", "expert": "provider-select", "source": str(tmp_path), "live": "if-better"}
    page = root.post(f"{PIPELINES}add/", data)
    form = page.context["adminform"].form
    assert "neither a .jsonl nor a .json file" in form.errors["source"][0]
    assert (form["expert"].value(), form["source"].value()) == ("provider-select", str(tmp_path))
    assert not page.context["messages"]
    assert not Pipeline.objects.exists()
    response = root.post(f"{PIPELINES}add/", {**data, "source": str(samples["provider-select"])})
    assert response.status_code == 302, response.content.decode()[:3000]
    pipeline = Pipeline.objects.get()
    assert [run.kind for run in pipeline.steps] == [
        "preprocess", "train", "generate_dataset", "preprocess", "train", "evaluate", "evaluate"
    ]  # fmt: skip
    assert pipeline.steps[2].params["adapters"] == ["calendar", "claim-window", "provider-select"]


def test_failed_runs_and_pipelines_are_tried_again(root: Client) -> None:
    """From the step that failed."""
    make_routing_dataset()
    pipeline = Pipeline.objects.create(name="p", outcome="failed")
    params = {"dataset": "routing_20260101_120000"}
    failed = make_run("a", Status.FAILED, pipeline=pipeline, params=params)
    act(root, RUNS, "retry_runs", failed)
    assert [run.status for run in pipeline.steps] == [Status.QUEUED]
    (message,) = act(root, PIPELINES, "retry_pipelines", pipeline)
    assert "cancel it first, or wait" in message


@pytest.fixture
def promotion(monkeypatch: pytest.MonkeyPatch) -> Promotion:
    """How what serves came in the place of what served before; an engine that takes every stack."""
    monkeypatch.setattr(
        "inference.services.get_engine", lambda: type("Engine", (), {"deploy": lambda self, stack: None})()
    )
    first = make_champion()
    return switch_champion(Switch(build_stack(make_version(first.router.adapter, EXPERTS)), first))


def test_a_promotion_is_rolled_back_by_a_dialog_that_asks_why(root: Client, promotion: Promotion) -> None:
    """Looking at it changes nothing; done twice, it goes back once."""
    page = root.get("/admin/adapters/promotion/").content.decode()
    url = reverse("admin:adapters_promotion_roll_back", args=[promotion.pk])
    assert url in page
    assert "goes live again" in root.get(url).content.decode()
    assert "required" in root.post(url, {"_form_submitted": "on"}).content.decode()
    assert Alias.objects.get().stack == promotion.stack
    asked = {"_form_submitted": "on", "reason": "bad"}
    for _ in range(2):
        assert root.post(url, asked)["HX-Redirect"] == "/admin/adapters/promotion/"
        assert Alias.objects.get().stack == promotion.previous
    made = Promotion.objects.latest("id")
    assert (made.is_rollback, made.reason, made.created_by) == (True, "bad", User.objects.get())
    back = reverse("admin:adapters_promotion_roll_back", args=[made.pk])
    refused = root.post(back, asked).content.decode()
    assert "That is a rollback itself" in refused and 'value="bad"' in refused
    assert Alias.objects.get().stack == promotion.previous


def test_a_rollback_needs_the_permission_to_promote(client: Client, promotion: Promotion) -> None:
    """To look at promotions is not enough."""
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["view_promotion", "change_promotion"]))
    client.force_login(clerk)
    url = reverse("admin:adapters_promotion_roll_back", args=[promotion.pk])
    assert client.post(url, {"_form_submitted": "on", "reason": "bad"}).status_code == 403
    assert Alias.objects.get().stack == promotion.stack
