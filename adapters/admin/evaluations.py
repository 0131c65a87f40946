"""Evaluations and their reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.html import format_html

from adapters.models import Evaluation
from datasets_app.admin.base import ReadOnlyAdmin, display, link, pretty
from datasets_app.admin.filters import CREATED, typed

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnlyAdmin):
    """Figures, each with its interval."""

    list_display = ["version_link", "dataset_name", "samples", "figure", "interval", "stack_link", "report_link"]
    list_display_links = ["figure"]
    list_filter = ["version__adapter", typed("dataset_name"), CREATED]
    list_select_related = ["version__adapter", "stack__router__adapter"]
    search_fields = ["version__adapter__name", "dataset_name"]
    fields = [
        "version_link",
        "stack_link",
        "dataset_name",
        "dataset_digest",
        "samples",
        "figure",
        "interval",
        "report_link",
        "figures",
        "created_at",
    ]
    readonly_fields = fields

    def get_urls(self) -> list[Any]:
        """The report's page."""
        report = self.admin_site.admin_view(self.report_view)
        return [path("<int:pk>/report/", report, name="adapters_evaluation_report"), *super().get_urls()]

    def report_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The report as it was written, in a sandbox of its own: no scripts, no network, no cookies."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        evaluation = get_object_or_404(Evaluation, pk=pk)
        file = (Path(evaluation.path) / "report.html").resolve()
        if not file.is_relative_to(Path(settings.DATA_ROOT).resolve()) or not file.is_file():
            raise Http404("This evaluation has no report.")
        headers = {"Content-Security-Policy": REPORT_POLICY, "X-Content-Type-Options": "nosniff"}
        return HttpResponse(file.read_bytes(), content_type="text/html; charset=utf-8", headers=headers)

    @display(description="version", ordering="version")
    def version_link(self, obj: Evaluation) -> str:
        """What was evaluated."""
        return link(obj.version)

    @display(description="within stack")
    def stack_link(self, obj: Evaluation) -> str:
        """With which experts, if with any."""
        return link(obj.stack)

    @display(description="accuracy", ordering="accuracy")
    def figure(self, obj: Evaluation) -> str:
        """The headline."""
        return f"{obj.accuracy:.1%}"

    @display(description="95% interval")
    def interval(self, obj: Evaluation) -> str:
        """Wilson's."""
        return f"{obj.ci_low:.1%} – {obj.ci_high:.1%}"

    @display(description="report")
    def report_link(self, obj: Evaluation) -> str:
        """Opens in a page of its own."""
        url = reverse("admin:adapters_evaluation_report", args=[obj.pk])
        return format_html(
            '<a href="{}" target="_blank" rel="noopener" class="text-primary-600 dark:text-primary-500">open</a>', url
        )

    @display(description="figures")
    def figures(self, obj: Evaluation) -> str:
        """Everything but the samples."""
        return pretty({key: value for key, value in obj.report.items() if key not in {"samples", "mistakes"}})
