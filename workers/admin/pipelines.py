"""Pipelines."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from adapters.models import Adapter
from datasets_app.admin.base import ServiceAdmin, action, display, link
from datasets_app.models import SourceDataset
from workers.admin.permissions import LaunchPermissions
from workers.admin.progress import bar
from workers.admin.runs import STATUS_COLOURS
from workers.models import Pipeline
from workers.services import cancel_pipeline, launch_router_pipeline


class PipelineForm(forms.ModelForm):  # type: ignore[type-arg]
    """A router to train, from dataset to verdict."""

    adapters = forms.ModelMultipleChoiceField(
        Adapter.objects.filter(kind=Adapter.Kind.EXPERT, source__isnull=False),
        to_field_name="name",
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="The experts that the router is to choose between.",
    )
    negatives = forms.ModelMultipleChoiceField(
        SourceDataset.objects.all(),
        to_field_name="name",
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="Sources of screens that no expert is meant for.",
    )
    router = forms.CharField(initial="router", widget=UnfoldAdminTextInputWidget)
    samples_per_class = forms.IntegerField(initial=200, min_value=1, widget=UnfoldAdminIntegerFieldWidget)
    seed = forms.IntegerField(initial=0, min_value=0, widget=UnfoldAdminIntegerFieldWidget)
    train = forms.JSONField(
        initial=dict,
        required=False,
        widget=UnfoldAdminTextareaWidget,
        help_text='Fields of the training recipe, as {"max_steps": 100}.',
    )

    class Meta:
        model = Pipeline
        fields = ["name"]


@admin.register(Pipeline)
class PipelineAdmin(LaunchPermissions, ServiceAdmin):
    """Adding a pipeline launches it."""

    form = PipelineForm
    list_display = ["name", "status_label", "step_bars", "created_by", "created_at"]
    search_fields = ["name"]
    date_hierarchy = "created_at"
    actions = ["cancel_pipelines"]

    class Media:
        js = ["workers/live.js"]
        css = {"all": ["workers/live.css"]}

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A pipeline is a record."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A pipeline is a record."""
        return False

    def get_fields(self, request: HttpRequest, obj: Pipeline | None = None) -> list[str]:
        """The wish, or the record."""
        if obj is None:
            return ["name", "adapters", "negatives", "router", "samples_per_class", "seed", "train"]
        return ["name", "status_label", "step_bars", "created_by", "created_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: Pipeline | None = None) -> list[str]:
        """Everything, once it is launched."""
        return self.get_fields(request, obj) if obj else []

    def get_form(self, request: HttpRequest, obj: Pipeline | None = None, **kwargs: Any) -> Any:
        """A name is made up where none is given."""
        form = super().get_form(request, obj, **kwargs)
        if obj is None and "name" in form.base_fields:
            form.base_fields["name"].required = False
        return form

    def save_model(self, request: HttpRequest, obj: Pipeline, form: Any, change: bool) -> None:
        """Call the service."""
        wish = form.cleaned_data
        pipeline = launch_router_pipeline(
            wish["name"] or None,
            adapters=[adapter.name for adapter in wish["adapters"]],
            negatives=[source.name for source in wish["negatives"]],
            router=wish["router"],
            samples_per_class=wish["samples_per_class"],
            seed=wish["seed"],
            train=wish["train"] or {},
            user=cast(User, request.user),
        )
        obj.pk = pipeline.pk
        obj.refresh_from_db()

    @action(description="Cancel the selected pipelines", permissions=["cancel"])
    def cancel_pipelines(self, request: HttpRequest, queryset: QuerySet[Pipeline]) -> None:
        """Every run of them that is not over."""
        self.apply(request, queryset, cancel_pipeline)

    @display(description="status", label=STATUS_COLOURS)
    def status_label(self, obj: Pipeline) -> str:
        """As a badge."""
        return obj.status.value

    @display(description="steps")
    def step_bars(self, obj: Pipeline) -> str:
        """A bar for each."""
        url = reverse("admin:workers_run_progress")
        rows = format_html_join("", "<li>{}{}</li>", ((link(run, run.kind), bar(run, url)) for run in obj.steps))
        return format_html('<ol class="run-steps">{}</ol>', rows)
