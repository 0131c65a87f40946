"""What can be launched from the pages of adapters and versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse

from adapters.admin import AdapterAdmin, AdapterVersionAdmin
from adapters.models import Adapter, AdapterVersion
from adapters.selectors import champion
from datasets_app.admin.base import action, display, launched, links
from datasets_app.errors import InputError
from datasets_app.models import PreparedDataset
from datasets_app.places import is_place
from inference.engines.base import EngineError
from inference.services import promote
from workers.admin.fetching import FetchingAdmin
from workers.admin.permissions import LaunchPermissions
from workers.admin.promoting import DIALOG, PromotionForm
from workers.models import Run
from workers.services import launch, launch_expert_pipeline, launch_router_pipeline

admin.site.unregister([Adapter, AdapterVersion])


@admin.register(Adapter)
class LaunchingAdapterAdmin(LaunchPermissions, FetchingAdmin, AdapterAdmin):
    """The same, with pipelines to launch and files from volumes."""

    actions = ["train_router", "train_experts"]

    def bring(self, request: HttpRequest, kind: str, files: str) -> Callable[[Adapter], None]:
        """Store them, or fetch them from a volume first."""
        if not is_place(files):
            return super().bring(request, kind, files)
        return lambda adapter: self.fetch(request, what="adapter", name=adapter.name, kind=kind, place=files)

    @action(description="Train a router between the selected experts", permissions=["launch"])
    def train_router(self, request: HttpRequest, queryset: QuerySet[Adapter]) -> None:
        """Dataset, preprocessing, training and evaluation, with the usual parameters."""
        names = list(queryset.values_list("name", flat=True))
        try:
            pipeline = launch_router_pipeline(adapters=names, user=cast(User, request.user))
        except InputError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, launched(pipeline), messages.SUCCESS)

    @action(description="Train the selected experts on their sources", permissions=["launch"])
    def train_experts(self, request: HttpRequest, queryset: QuerySet[Adapter]) -> None:
        """One pipeline each."""
        user = cast(User, request.user)
        self.apply(request, queryset, lambda adapter: launch_expert_pipeline(adapter.name, user=user))


@admin.register(AdapterVersion)
class LaunchingVersionAdmin(LaunchPermissions, AdapterVersionAdmin):
    """The same, with the run that made it, and what can be done with it."""

    actions = ["evaluate", "compare"]
    actions_row = ["promote_router"]
    fields = ["adapter_link", "made_by", "trained_from", *AdapterVersionAdmin.fields[1:]]
    readonly_fields = fields

    @display(description="made by")
    def made_by(self, obj: AdapterVersion) -> str:
        """The run that trained or fetched it; none for local files."""
        return links(obj.runs.filter(kind__in=[Run.Kind.TRAIN, Run.Kind.FETCH]))

    @display(description="trained from")
    def trained_from(self, obj: AdapterVersion) -> str:
        """The very prepared dataset, whose held-out side it has not seen."""
        keys = obj.runs.filter(kind=Run.Kind.TRAIN).values_list("inputs__prepared_dataset", flat=True)
        return links(PreparedDataset.objects.filter(pk__in=[key for key in keys if key is not None]))

    @action(description="Evaluate on what they were trained from", permissions=["launch"])
    def evaluate(self, request: HttpRequest, queryset: QuerySet[AdapterVersion]) -> None:
        """On the held-out side of the very prepared dataset."""
        user = cast(User, request.user)
        self.apply(request, queryset, lambda version: launch(Run.Kind.EVALUATE, evaluation_of(version), user=user))

    @action(description="Evaluate routers with their experts, and what serves likewise", permissions=["launch"])
    def compare(self, request: HttpRequest, queryset: QuerySet[AdapterVersion]) -> None:
        """On the same samples: what `promote` asks for where experts have changed."""
        user = cast(User, request.user)
        asked: dict[str, Any] = {"kind": Run.Kind.EVALUATE, "user": user, "reuse": True}
        datasets: set[str] = set()

        def with_experts(version: AdapterVersion) -> Run:
            if version.adapter.kind != Adapter.Kind.ROUTER:
                raise InputError("an expert has no experts; select routers.")
            params = evaluation_of(version) | {"stack": True}
            datasets.add(params["dataset"])
            return launch(params=params, **asked)

        self.apply(request, queryset.select_related("adapter"), with_experts)
        if champion() is not None:
            what_serves = {"serving": True, "stack": True}
            self.apply(request, sorted(datasets), lambda name: launch(params={"dataset": name, **what_serves}, **asked))

    @action(description="Put live", permissions=["promote"], dialog=DIALOG)
    def promote_router(self, request: HttpRequest, form: PromotionForm, object_id: str) -> HttpResponse:
        """With the current version of each expert; refused by the rule, unless a reason is given to force it."""
        version = get_object_or_404(AdapterVersion, pk=object_id)
        try:
            stack = promote(version, **form.asked, user=cast(User, request.user))
        except EngineError as error:
            raise InputError(str(error)) from error
        self.message_user(request, f"{stack} is live.", messages.SUCCESS)
        return HttpResponse(headers={"HX-Redirect": reverse("admin:adapters_adapterversion_changelist")})


def evaluation_of(version: AdapterVersion) -> dict[str, Any]:
    """Parameters of the evaluation of `version`."""
    run = version.runs.filter(kind=Run.Kind.TRAIN).first()
    if run is None:
        raise InputError("its files were imported; evaluate it on a dataset of your choice, by adding a run.")
    return {"run": run.name, "dataset": run.params["dataset"]}
