"""Adapters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import ForeignKey
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextInputWidget

from adapters.models import Adapter, AdapterVersion
from adapters.services import (
    check_adapter,
    configured_base,
    record_version,
    register_adapter,
    set_current,
    store_files,
)
from datasets_app.admin.base import ServiceAdmin, display, link, links

KIND_COLOURS = {"expert": "info", "router": "primary"}


class AdapterForm(forms.ModelForm):  # type: ignore[type-arg]
    """An adapter, and optionally the files of its next version."""

    files = forms.CharField(  # type: ignore[assignment]
        required=False,
        max_length=1024,
        widget=UnfoldAdminTextInputWidget,
        help_text="Folder with adapter_config.json and adapter_model.safetensors, on the server or as volume:path on "
        "Modal; they are checked and stored as the next version. Their switchyard.json says what they are served with.",
    )


@admin.register(Adapter)
class AdapterAdmin(ServiceAdmin):
    """Registering, giving another source, adding files, choosing the version that new stacks take."""

    form = AdapterForm
    refusal_fields = {"": "files"}
    list_display = ["name", "kind_label", "serving_version", "source_link", "base", "created_at"]
    list_filter = ["kind", "base"]
    list_select_related = ["base", "source", "current__adapter"]
    search_fields = ["name", "description"]

    def get_fields(self, request: HttpRequest, obj: Adapter | None = None) -> list[str]:
        """A new one has no versions to choose from."""
        if obj is None:
            return ["name", "kind", "source", "description", "files"]
        return ["name", "kind", "base", "source", "current", "files", "description", "all_versions", "created_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: Adapter | None = None) -> list[str]:
        """What it is stays."""
        return ["name", "kind", "base", "description", "all_versions", "created_at"] if obj else []

    def get_form(self, request: HttpRequest, obj: Adapter | None = None, **kwargs: Any) -> Any:
        """Offer the adapter's own versions; a source can be exchanged, not taken away."""
        form = super().get_form(request, obj, **kwargs)
        if obj is not None and "current" in form.base_fields:
            form.base_fields["current"].queryset = obj.versions.all()
            form.base_fields["current"].required = obj.current is not None
            form.base_fields["source"].required = obj.source is not None
        return form

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        """Without the buttons that open other pages in pop-ups."""
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        for can in ("can_add_related", "can_change_related", "can_delete_related", "can_view_related"):
            setattr(field.widget, can, False)
        return field

    def save_model(self, request: HttpRequest, obj: Adapter, form: Any, change: bool) -> None:
        """Call the services: the files first, then all rows or none."""
        current: AdapterVersion | None = obj.current
        check_adapter(obj.name, obj.kind)
        files = form.cleaned_data["files"]
        add_files = self.bring(request, obj.kind, files) if files else None
        with transaction.atomic():
            adapter = register_adapter(obj.name, kind=obj.kind, source=obj.source, description=obj.description)
            if current is not None and "current" in form.changed_data:
                set_current(current)
            if add_files is not None:
                add_files(adapter)
        obj.pk = adapter.pk
        obj.refresh_from_db()

    def bring(self, request: HttpRequest, kind: str, files: str) -> Callable[[Adapter], None]:
        """Store the files; what makes them the adapter's next version."""
        stored = store_files(files, kind, configured_base())

        def add(adapter: Adapter) -> None:
            version = record_version(adapter, stored)
            if version.note:
                self.message_user(request, version.note, messages.WARNING)

        return add

    @display(description="kind", ordering="kind", label=KIND_COLOURS)
    def kind_label(self, obj: Adapter) -> str:
        """Expert or router."""
        return obj.kind

    @display(description="current", ordering="current")
    def serving_version(self, obj: Adapter) -> str:
        """The version that a new stack takes."""
        return link(obj.current)

    @display(description="source", ordering="source__name")
    def source_link(self, obj: Adapter) -> str:
        """Where routing examples are drawn from."""
        return link(obj.source)

    @display(description="versions")
    def all_versions(self, obj: Adapter) -> str:
        """Newest first."""
        return links(obj.versions.select_related("adapter"))
