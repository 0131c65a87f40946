"""Other people's models, in the looks of ours."""

from __future__ import annotations

from typing import Any

from axes.admin import AccessAttemptAdmin, AccessFailureLogAdmin, AccessLogAdmin
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django_celery_beat import admin as beat_admin
from django_celery_beat import models as beat
from knox.admin import AuthTokenAdmin
from knox.models import AuthToken
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from controlplane.periodic import check_json, check_times
from datasets_app.admin.base import Page
from datasets_app.errors import InputError

# What would need packages that are not there, send messages to queues that nobody reads, or forge their headers.
PLUMBING = ("solar", "queue", "exchange", "routing_key", "priority", "headers")


class SwitchyardUserAdmin(UserAdmin, Page):  # type: ignore[type-arg]
    """Users."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


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
    """Schedules."""

    form = PeriodicTaskForm
    fieldsets = [
        (title, options | {"fields": [field for field in options["fields"] if field not in PLUMBING]})
        for title, options in beat_admin.PeriodicTaskAdmin.fieldsets
    ]


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


class CrontabAdmin(beat_admin.CrontabScheduleAdmin, Page):  # type: ignore[misc]
    """Crontabs."""

    form = TimesForm


class ClockedAdmin(beat_admin.ClockedScheduleAdmin, Page):  # type: ignore[misc]
    """Single moments."""

    form = TimesForm


admin.site.unregister(beat.SolarSchedule)
ADMINS = {
    User: SwitchyardUserAdmin,
    beat.PeriodicTask: PeriodicTaskAdmin,
    beat.IntervalSchedule: IntervalAdmin,
    beat.CrontabSchedule: CrontabAdmin,
    beat.ClockedSchedule: ClockedAdmin,
    **{
        model: type(base.__name__, (base, Page), {})
        for model, base in {
            Group: GroupAdmin,
            AuthToken: AuthTokenAdmin,
            AccessAttempt: AccessAttemptAdmin,
            AccessFailureLog: AccessFailureLogAdmin,
            AccessLog: AccessLogAdmin,
        }.items()
    },
}
for model, model_admin in ADMINS.items():
    if admin.site.is_registered(model):
        admin.site.unregister(model)
    admin.site.register(model, model_admin)
