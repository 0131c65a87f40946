"""What all admin pages share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold import decorators
from unfold.admin import ModelAdmin

from datasets_app.admin.refusals import place, refuse, showing_refusal
from datasets_app.errors import InputError
from datasets_app.selectors import without_json

MOST_LINKS = 50
NOTHING = "–"

DjangoAdmin: Any = admin.ModelAdmin  # untyped, as unfold's is

Method = TypeVar("Method", bound=Callable[..., Any])


def display(**options: Any) -> Callable[[Method], Method]:
    """`unfold.decorators.display`, typed, of what is computed once a row: a page of unfold asks for it five times."""
    decorate: Callable[[Any], Method] = decorators.display(**options)

    def once(method: Method) -> Method:
        @wraps(method)
        def shown(page: Any, row: Model) -> Any:
            known = row.__dict__.setdefault("_shown", {})
            if method.__name__ not in known:
                known[method.__name__] = method(page, row)
            return known[method.__name__]

        return decorate(shown)

    return once


def action(**options: Any) -> Callable[[Method], Method]:
    """`unfold.decorators.action`, typed; a dialog is shown again where a service refuses."""
    decorate: Callable[[Any], Method] = decorators.action(**options)
    dialog = options.get("dialog")
    return decorate if dialog is None else lambda method: decorate(_asking_again(method, dialog))


def _asking_again(method: Callable[..., HttpResponse], dialog: Mapping[str, Any]) -> Callable[..., HttpResponse]:
    """The action, whose dialog is shown again, as it was filled in, where a service refuses."""

    @wraps(method)
    def act(page: Any, request: HttpRequest, form: forms.Form, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return method(page, request, form, *args, **kwargs)
        except InputError as error:
            first = form.visible_fields()[0].name  # the template shows no errors but those of fields
            form.add_error(*place(form, str(error), {"": first}))
            shown = {"dialog": dialog, "form": form, "form_submit_text": dialog.get("form_submit_text", "")}
            return render(request, "unfold/helpers/dialog.html", shown)

    return act


class Page(ModelAdmin):  # type: ignore[misc]
    """A page of the admin, ours or somebody else's."""

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """As Django's, which fails where the selection names what can be no row."""
        if all(map(self._may_be_row, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            response: HttpResponse | None = super().response_action(request, queryset)
            return response
        self.message_user(request, "The selection names no rows: select some in the list.", messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

    def _may_be_row(self, text: str) -> bool:
        key = self.opts.pk
        try:
            key.run_validators(key.to_python(text))
        except ValidationError:
            return False
        return True


class Unlocked(DjangoAdmin):  # type: ignore[misc]
    """Forms without a transaction around them, in which a service that reads many files would keep everybody else from
    writing."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """As Django's, which adds the transaction alone."""
        response: HttpResponse = self._changeform_view(request, object_id, form_url, extra_context)
        return response


class ServiceAdmin(Page, Unlocked):
    """Pages that change rows through services alone, which open transactions where they write: an InputError becomes a
    message, or an error of the form."""

    refusal_fields: Mapping[str, str] = {}
    """The form's fields by the names that the service gives them; "" is that of a refusal that names none."""
    list_filter_submit = True
    compressed_fields = True
    list_json: Sequence[str] = ()
    """The JSON that the list shows; it reads no other."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows as a list needs them; a page reads the rest of its one row when it shows it."""
        rows: QuerySet[Any] = super().get_queryset(request)
        if self.list_select_related:
            rows = rows.select_related(*self.list_select_related)
        return without_json(rows, *self.list_json)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form again, as it was filled in, where a service refuses."""
        try:
            response: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        except InputError as error:
            refuse(request, error)
            response = super().changeform_view(request, object_id, form_url, extra_context)
        return response

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """With the reason at its field, where a service has refused."""
        return showing_refusal(request, super().get_form(request, obj, **kwargs), self.refusal_fields)

    def apply(self, request: HttpRequest, rows: Iterable[Any], service: Callable[[Any], object]) -> None:
        """Call the service for each row of an action; each result or refusal is a message."""
        for row in rows:
            try:
                result = service(row)
            except InputError as error:
                self.message_user(request, f"{row}: {error}", messages.ERROR)
            else:
                self.message_user(request, launched(result), messages.SUCCESS)


class ReadOnlyAdmin(ServiceAdmin):
    """Pages of rows that nobody edits: they are records of what happened."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody; whoever may change such rows in principle may look at them, and use their actions."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody."""
        return False


def launched(result: object) -> SafeString | str:
    """What an action says of its result."""
    return (
        format_html("{}: {}", link(result), getattr(result, "status", "done"))
        if isinstance(result, Model)
        else str(result)
    )


def link(row: Model | None, text: str | None = None) -> SafeString | str:
    """A link to the row's page."""
    if row is None:
        return NOTHING
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', url, text or str(row))


def links(rows: QuerySet[Any] | Sequence[Model]) -> SafeString | str:
    """Links to the first of several rows."""
    several = list(rows[: MOST_LINKS + 1])
    shown = format_html_join(", ", "{}", ((link(row),) for row in several[:MOST_LINKS])) or NOTHING
    return format_html("{}, …", shown) if len(several) > MOST_LINKS else shown


def pretty(value: object) -> SafeString | str:
    """JSON for people."""
    if not value:
        return NOTHING
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre class="max-h-96 overflow-auto text-xs whitespace-pre-wrap">{}</pre>', text)


def short(digest: str) -> str:
    """A content hash, long enough for people."""
    return digest.removeprefix("sha256:")[:12]
