"""Pipelines."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from datasets_app.admin.base import ServiceAdmin, action, display, link, pretty
from datasets_app.admin.filters import CREATED, one_of
from datasets_app.models import SourceDataset
from workers.admin.account import AccountBanner
from workers.admin.expectation import PIPELINES, expectation
from workers.admin.permissions import LaunchPermissions
from workers.admin.pipeline_form import PipelineForm
from workers.admin.progress import bar
from workers.admin.runs import STATUS_COLOURS
from workers.models import Pipeline
from workers.recipes.sizing import DEFAULT_WORDS
from workers.selectors import with_runs
from workers.services import cancel_unless_over, retry_pipeline, sizes_of, source_sizes
from workers.states import TERMINAL

MOST_LISTED = 30


def _margins() -> SafeString:
    """The default in words, and what each source holds out by it."""
    sizes = source_sizes(SourceDataset.objects.all()[:MOST_LISTED])
    listed = format_html_join("", "<br>{}", ((str(size),) for size in sizes))
    return format_html("Default: as it is, or {}.{}", DEFAULT_WORDS, listed)


@admin.register(Pipeline)
class PipelineAdmin(AccountBanner, LaunchPermissions, ServiceAdmin):
    """Adding a pipeline launches it."""

    form = PipelineForm
    refusal_fields = {"adapter": "files", "pipeline": "name", "config": "train"}
    list_display = ["name", "kind", "status_label", "step_bars", "verdict", "created_at"]
    list_filter = ["kind", one_of("outcome", lambda: sorted(TERMINAL)), CREATED]
    search_fields = ["name", "verdict"]
    actions = ["cancel_pipelines", "retry_pipelines"]
    launch_fieldsets = [
        (None, {"fields": ["kind", "name", "live", "backend"]}),
        ("To go live", {"fields": ["margin", "floor", "drop"]}),
        ("The expert to add", {"fields": ["expert", "source", "files"]}),
        (
            "The router",
            {
                "fields": [
                    "adapters",
                    "negatives",
                    "router",
                    "samples_per_class",
                    "seed",
                    "max_pixels",
                    "activated",
                    "train",
                ]
            },
        ),
        ("To evaluate again", {"fields": ["fresh_samples", "rollback"]}),
    ]
    record_fields = [
        "name",
        "kind",
        "status_label",
        "verdict",
        "trouble",
        "step_bars",
        "live",
        "promoted_link",
        "wish_text",
        "created_by",
        "created_at",
        "finished_at",
    ]

    class Media:
        js = ["workers/live.js"]
        css = {"all": ["workers/live.css"]}

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A pipeline is a record."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A pipeline is a record."""
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Pipeline | None = None) -> Any:
        """The wish, or the record."""
        return [(None, {"fields": self.record_fields})] if obj else self.launch_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Pipeline | None = None) -> list[str]:
        """Everything, once it is launched."""
        return self.record_fields if obj else []

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pipeline]:
        """With their steps."""
        return with_runs(super().get_queryset(request))

    def get_form(self, request: HttpRequest, obj: Pipeline | None = None, **kwargs: Any) -> Any:
        """A name is made up where none is given."""
        form = super().get_form(request, obj, **kwargs)
        if obj is None and "name" in form.base_fields:
            form.base_fields["name"].required = False
            form.base_fields["kind"].help_text = expectation(PIPELINES)
            form.base_fields["samples_per_class"].help_text = _margins()
        return form

    def save_model(self, request: HttpRequest, obj: Pipeline, form: Any, change: bool) -> None:
        """Call the service."""
        obj.pk = form.launch(cast(User, request.user)).pk
        obj.refresh_from_db()
        for size in sizes_of(obj):
            self.message_user(request, f"{size}.")

    @action(description="Cancel the selected pipelines", permissions=["cancel"])
    def cancel_pipelines(self, request: HttpRequest, queryset: QuerySet[Pipeline]) -> None:
        """Every run of them that is not over."""
        self.apply(request, queryset, cancel_unless_over)

    @action(description="Retry the selected pipelines from the step that failed", permissions=["launch"])
    def retry_pipelines(self, request: HttpRequest, queryset: QuerySet[Pipeline]) -> None:
        """What has succeeded is kept."""
        self.apply(request, queryset, retry_pipeline)

    @display(description="put live")
    def promoted_link(self, obj: Pipeline) -> str:
        """The stack that it put live."""
        return link(obj.promoted)

    @display(description="wish")
    def wish_text(self, obj: Pipeline) -> str:
        """What was asked for."""
        return pretty(obj.wish)

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
