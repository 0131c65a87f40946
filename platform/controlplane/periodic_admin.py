"""Schedules in the admin: what the forms take, beat can run; and nobody switches the platform off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django_celery_beat import admin as beat_admin
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from kombu.exceptions import OperationalError
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from controlplane.periodic import OWN, WHY, check_arguments, check_json, check_times, is_own, send
from datasets_app.admin.base import Page, action, link
from datasets_app.errors import InputError
from datasets_app.text import plain
from workers.services import run_now
from workers.services.schedule import REEVALUATE

# What would need packages that are not there, send messages to queues that nobody reads, or forge their headers.
PLUMBING = ("solar", "queue", "exchange", "routing_key", "priority", "headers")


class TaskSelect(UnfoldAdminSelectWidget, beat_admin.TaskSelectWidget):  # type: ignore[misc]
    """The registered tasks, in a select of the right looks."""


class PeriodicTaskForm(beat_admin.PeriodicTaskForm):  # type: ignore[misc]
    """A schedule's form with widgets of the right looks, which takes what beat can run."""

    class Meta(beat_admin.PeriodicTaskForm.Meta):  # type: ignore[misc]
        exclude = PLUMBING

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()

    def clean(self) -> dict[str, Any]:
        """One schedule, whose times come."""
        self.cleaned_data.setdefault("task", "")  # the library's looks at what may have been refused
        self.instance.solar = None
        for field in ("interval", "crontab", "clocked"):
            if times := self.cleaned_data.get(field):
                try:
                    check_times(times)
                except InputError as error:
                    self.add_error(field, str(error))
        data: dict[str, Any] = super().clean()
        if not self.errors:
            try:
                check_arguments(data["task"], data["args"], data["kwargs"])
            except InputError as error:
                field, _, words = str(error).partition(": ")
                self.add_error(field, words)
        return data

    def _clean_json(self, field: str) -> str:
        """Arguments as strict as the API's."""
        text: str = self.cleaned_data[field]
        try:
            check_json(field, text)
        except InputError as error:
            raise ValidationError(str(error)) from error
        return text


class PeriodicTaskAdmin(beat_admin.PeriodicTaskAdmin, Page):  # type: ignore[misc]
    """Schedules: people's are edited; the platform's own, without which it stands still, are only looked at."""

    form = PeriodicTaskForm
    fieldsets = [
        (title, options | {"fields": [field for field in options["fields"] if field not in PLUMBING]})
        for title, options in beat_admin.PeriodicTaskAdmin.fieldsets
    ]

    def has_change_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        """Not of the platform's own."""
        return not is_own(obj) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        """Not of the platform's own; nor, therefore, of the interval that one has."""
        return not is_own(obj) and bool(super().has_delete_permission(request, obj))

    def get_deleted_objects(self, objs: Iterable[PeriodicTask], request: HttpRequest) -> Any:
        """As Django's, which says that there are such, and not why."""
        self._keep(request, [task for task in objs if is_own(task)])
        return super().get_deleted_objects(objs, request)

    @action(description="Enable selected tasks", permissions=["change"])
    def enable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Any."""
        super().enable_tasks(request, queryset)

    @action(description="Disable selected tasks", permissions=["change"])
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """People's."""
        super().disable_tasks(request, self._peoples(request, queryset))

    @action(description="Toggle activity of selected tasks", permissions=["change"])
    def toggle_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """People's."""
        super().toggle_tasks(request, self._peoples(request, queryset))

    @action(description="Run selected tasks", permissions=["change"])
    def run_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Once, now; each that cannot be is a message."""
        for task in queryset:
            try:
                if task.task == REEVALUATE:  # its message says no more than that a slot is due
                    done = format_html("{}: {}", task.name, link(run_now(task, cast(User, request.user))))
                else:
                    send(task)
                    done = format_html("{}: sent.", task.name)
            except OperationalError as error:
                self.message_user(request, f"{task.name}: the broker takes no message: {error}", messages.ERROR)
                return  # to ask it again costs each time
            except Exception as error:  # arguments that the task does not take, …
                self.message_user(request, f"{task.name}: {plain(str(error))}", messages.ERROR)
            else:
                self.message_user(request, done, messages.SUCCESS)

    def _peoples(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> QuerySet[PeriodicTask]:
        self._keep(request, queryset.filter(name__in=OWN))
        return queryset.exclude(name__in=OWN)

    def _keep(self, request: HttpRequest, own: Iterable[PeriodicTask]) -> None:
        for task in own:
            self.message_user(request, f"{task.name} stays as it is: {WHY}", messages.ERROR)


class TimesForm(forms.ModelForm):  # type: ignore[type-arg]
    """Times that come."""

    def clean(self) -> dict[str, Any]:
        """Refused before a schedule can have them."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                check_times(self._meta.model(**data))
            except InputError as error:
                raise ValidationError(str(error)) from error
        return data


class IntervalAdmin(Page):
    """Intervals."""

    form = TimesForm

    def has_change_permission(self, request: HttpRequest, obj: IntervalSchedule | None = None) -> bool:
        """Not of one that the platform's own have."""
        is_owns = obj is not None and obj.periodictask_set.filter(name__in=OWN).exists()
        return not is_owns and bool(super().has_change_permission(request, obj))


class CrontabAdmin(beat_admin.CrontabScheduleAdmin, Page):  # type: ignore[misc]
    """Crontabs."""

    form = TimesForm


class ClockedAdmin(beat_admin.ClockedScheduleAdmin, Page):  # type: ignore[misc]
    """Single moments."""

    form = TimesForm
