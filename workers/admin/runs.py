"""Runs, live."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.html import format_html
from unfold.admin import TabularInline

from datasets_app.admin.base import ServiceAdmin, action, display, link, pretty
from datasets_app.admin.filters import CREATED, one_of
from datasets_app.admin.forms import JSONObjectField
from workers.admin.account import AccountBanner
from workers.admin.backends import BackendField
from workers.admin.expectation import RUNS, expectation
from workers.admin.permissions import LaunchPermissions
from workers.admin.progress import bar, percent, words
from workers.kinds import parameters
from workers.models import Attempt, Run
from workers.selectors import listed
from workers.services import cancel_unless_over, launch, log_tail, retry
from workers.states import Status

STATUS_COLOURS = {
    Status.QUEUED.value: "default",
    Status.LAUNCHING.value: "info",
    Status.RUNNING.value: "info",
    Status.FINALIZING.value: "info",
    Status.SUCCEEDED.value: "success",
    Status.FAILED.value: "danger",
    Status.CANCELLED.value: "warning",
}
MAX_WATCHED = 200
RESULTS = (
    "routing_dataset",
    "prepared_dataset__routing_dataset",
    "prepared_dataset__source_dataset",
    "adapter_version__adapter",
    "evaluation__version__adapter",
)


class AttemptInline(TabularInline):  # type: ignore[misc]
    """The launches of a run."""

    model = Attempt
    fields = ["number", "outcome", "error", "machine", "seconds", "cost", "created_at", "ended_at"]
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Workers add attempts."""
        return False


@admin.register(Run)
class RunAdmin(AccountBanner, LaunchPermissions, ServiceAdmin):
    """Adding a run launches it; after that it is a record, and can be cancelled."""

    refusal_fields = {"": "params"}
    list_display = ["name", "kind", "status_label", "progress_bar", "result", "created_at"]
    list_filter = ["status", "kind", one_of("backend", lambda: settings.COMPUTE), CREATED]
    list_select_related = ["reused_from", *RESULTS]
    list_json = ["progress"]
    search_fields = ["name", "error"]
    actions = ["cancel_runs", "retry_runs"]
    inlines = [AttemptInline]
    launch_fields = ["kind", "name", "backend", "params"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "name",
                    "kind",
                    "status_label",
                    "progress_bar",
                    "error",
                    "trouble",
                    "result",
                    "reused",
                    "pipeline_link",
                ]
            },
        ),
        ("Times", {"classes": ["tab"], "fields": ["backend", "created_by", "created_at", "started_at", "finished_at"]}),
        ("Parameters", {"classes": ["tab"], "fields": ["params_text", "spec_text"]}),
        ("Summary", {"classes": ["tab"], "fields": ["summary_text"]}),
        ("Log", {"classes": ["tab"], "fields": ["log"]}),
    ]

    class Media:
        js = ["workers/live.js"]
        css = {"all": ["workers/live.css"]}

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A run is a record."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A run is a record."""
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Run | None = None) -> Any:
        """The wish, or the record."""
        return self.fieldsets if obj else [(None, {"fields": self.launch_fields})]

    def get_readonly_fields(self, request: HttpRequest, obj: Run | None = None) -> list[str]:
        """Everything, once it is launched."""
        return [name for _, options in self.fieldsets for name in options["fields"]] if obj else []

    def get_inlines(self, request: HttpRequest, obj: Run | None) -> Any:
        """A wish has no attempts."""
        return self.inlines if obj else []

    def get_form(self, request: HttpRequest, obj: Run | None = None, **kwargs: Any) -> Any:
        """A name is made up where none is given."""
        form = super().get_form(request, obj, **kwargs)
        if obj is None and "name" in form.base_fields:
            form.base_fields["name"].required = False
            form.base_fields["kind"].help_text = expectation(RUNS)
            form.base_fields["backend"] = BackendField(help_text="Where it runs.")
            form.base_fields["params"] = JSONObjectField(
                widget=form.base_fields["params"].widget,
                initial=dict,
                help_text=parameters(),
            )
        return form

    def save_model(self, request: HttpRequest, obj: Run, form: Any, change: bool) -> None:
        """Call the service."""
        backend = form.cleaned_data["backend"] or None
        run = launch(obj.kind, obj.params, name=obj.name or None, backend=backend, user=cast(User, request.user))
        obj.pk = run.pk
        obj.refresh_from_db()

    def get_urls(self) -> list[Any]:
        """What the pages poll."""
        wrap = self.admin_site.admin_view
        return [
            path("progress/", wrap(self.progress_view), name="workers_run_progress"),
            path("<int:pk>/log/", wrap(self.log_view), name="workers_run_log"),
            *super().get_urls(),
        ]

    def progress_view(self, request: HttpRequest) -> HttpResponse:
        """Status and progress of the runs in `?ids=1,2,…`."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        ids = request.GET.get("ids", "").split(",")
        if len(ids) > MAX_WATCHED or not all(pk.isascii() and pk.isdecimal() and len(pk) < 19 for pk in ids):
            return HttpResponseBadRequest("ids: up to 200 numbers, separated by commas.")
        runs = listed(Run.objects.filter(pk__in=ids))
        return JsonResponse(
            {
                run.pk: {"status": run.status, "over": run.is_over, "percent": percent(run), "words": words(run)}
                for run in runs
            }
        )

    def log_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The end of the run's log, as plain text."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponse(log_tail(get_object_or_404(Run, pk=pk)), content_type="text/plain; charset=utf-8")

    @action(description="Cancel the selected runs", permissions=["cancel"])
    def cancel_runs(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Those that are over are messages."""
        self.apply(request, queryset, cancel_unless_over)

    @action(description="Retry the selected runs", permissions=["launch"])
    def retry_runs(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Those that failed or were cancelled, with the later steps of their pipelines."""
        self.apply(request, queryset, retry)

    @display(description="status", ordering="status", label=STATUS_COLOURS)
    def status_label(self, obj: Run) -> str:
        """As a badge."""
        return obj.status

    @display(description="progress")
    def progress_bar(self, obj: Run) -> str:
        """Kept up to date by the page."""
        return bar(obj, reverse("admin:workers_run_progress"))

    @display(description="result")
    def result(self, obj: Run) -> str:
        """What came of it."""
        return link(obj.routing_dataset or obj.adapter_version or obj.evaluation or obj.prepared_dataset)

    @display(description="reused from")
    def reused(self, obj: Run) -> str:
        """The equal run whose result it took."""
        return link(obj.reused_from)

    @display(description="pipeline", ordering="pipeline")
    def pipeline_link(self, obj: Run) -> str:
        """What it is a step of."""
        return link(obj.pipeline)

    @display(description="parameters")
    def params_text(self, obj: Run) -> str:
        """As asked for."""
        return pretty(obj.params)

    @display(description="recipe")
    def spec_text(self, obj: Run) -> str:
        """What the job was given."""
        return pretty(obj.spec)

    @display(description="summary")
    def summary_text(self, obj: Run) -> str:
        """What the job said of its result."""
        return pretty({key: value for key, value in obj.summary.items() if key not in {"samples", "mistakes"}})

    @display(description="log")
    def log(self, obj: Run) -> str:
        """Fetched by the page."""
        return format_html(
            '<pre class="run-log" data-url="{}" data-over="{}">…</pre>',
            reverse("admin:workers_run_log", args=[obj.pk]),
            int(obj.is_over),
        )
