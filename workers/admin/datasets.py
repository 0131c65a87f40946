"""What can be launched from the pages of datasets."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest

from datasets_app.admin import RoutingDatasetAdmin, SourceDatasetAdmin
from datasets_app.admin.base import ServiceAdmin, action, display, links
from datasets_app.models import RoutingDataset, SourceDataset
from datasets_app.places import is_place
from workers.admin.fetching import FetchingAdmin
from workers.admin.permissions import LaunchPermissions
from workers.models import Run
from workers.services import launch

admin.site.unregister([RoutingDataset, SourceDataset])


class PreprocessingAdmin(LaunchPermissions, ServiceAdmin):
    """Adds the action that preprocesses."""

    actions = ["preprocess"]

    @action(description="Preprocess the selected datasets", permissions=["launch"])
    def preprocess(self, request: HttpRequest, queryset: QuerySet[RoutingDataset | SourceDataset]) -> None:
        """One run each."""
        user = cast(User, request.user)
        self.apply(request, queryset, lambda row: launch(Run.Kind.PREPROCESS, {"dataset": row.name}, user=user))


@admin.register(SourceDataset)
class LaunchingSourceDatasetAdmin(PreprocessingAdmin, FetchingAdmin, SourceDatasetAdmin):
    """The same, with the action and folders on volumes."""

    def save_model(self, request: HttpRequest, obj: SourceDataset, form: Any, change: bool) -> None:
        """Register a folder here, or fetch one from a volume; one that was fetched is fetched again."""
        place = obj.path if "path" in form.changed_data else obj.origin or obj.path
        if is_place(place):
            self.fetch(request, what="source", name=obj.name, format=obj.format, place=place)
        else:
            super().save_model(request, obj, form, change)


@admin.register(RoutingDataset)
class LaunchingRoutingDatasetAdmin(PreprocessingAdmin, RoutingDatasetAdmin):
    """The same, with the action and the run that made it."""

    fields = ["name", "made_by", *RoutingDatasetAdmin.fields[1:]]
    readonly_fields = fields

    @display(description="made by")
    def made_by(self, obj: RoutingDataset) -> str:
        """The run."""
        return links(obj.runs.all())
