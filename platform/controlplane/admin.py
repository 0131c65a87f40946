"""Other people's models, in the looks of ours."""

from __future__ import annotations

from axes.admin import AccessAttemptAdmin, AccessFailureLogAdmin, AccessLogAdmin
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
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

from datasets_app.admin.base import Page
from datasets_app.errors import InputError
from datasets_app.strict_json import parse


class SwitchyardUserAdmin(UserAdmin, Page):  # type: ignore[type-arg]
    """Users."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


class TaskSelect(UnfoldAdminSelectWidget, beat_admin.TaskSelectWidget):  # type: ignore[misc]
    """The registered tasks, in a select of the right looks."""


class PeriodicTaskForm(beat_admin.PeriodicTaskForm):  # type: ignore[misc]
    """A schedule's form with widgets of the right looks."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()

    def _clean_json(self, field: str) -> str:
        """Arguments as strict as the API's."""
        text: str = self.cleaned_data[field]
        try:
            parse(text)
        except InputError as error:
            raise ValidationError(str(error)) from error
        return text


class PeriodicTaskAdmin(beat_admin.PeriodicTaskAdmin, Page):  # type: ignore[misc]
    """Schedules."""

    form = PeriodicTaskForm


ADMINS = {
    User: SwitchyardUserAdmin,
    beat.PeriodicTask: PeriodicTaskAdmin,
    beat.IntervalSchedule: Page,
    beat.SolarSchedule: Page,
    **{
        model: type(base.__name__, (base, Page), {})
        for model, base in {
            Group: GroupAdmin,
            AuthToken: AuthTokenAdmin,
            beat.ClockedSchedule: beat_admin.ClockedScheduleAdmin,
            beat.CrontabSchedule: beat_admin.CrontabScheduleAdmin,
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
