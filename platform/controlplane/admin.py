"""Other people's models, in the looks of ours."""

from __future__ import annotations

from axes.admin import AccessAttemptAdmin, AccessFailureLogAdmin, AccessLogAdmin
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django_celery_beat import models as beat
from knox.admin import AuthTokenAdmin
from knox.models import AuthToken
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from controlplane.periodic_admin import ClockedAdmin, CrontabAdmin, IntervalAdmin, PeriodicTaskAdmin
from datasets_app.admin.base import Page


class SwitchyardUserAdmin(UserAdmin, Page):  # type: ignore[type-arg]
    """Users."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


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
