"""The way back, on the page of promotions."""

from __future__ import annotations

from typing import cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from adapters.admin import PromotionAdmin
from adapters.models import Promotion
from datasets_app.admin.base import action
from datasets_app.errors import InputError
from inference.engines.base import EngineError
from inference.services import roll_back
from workers.admin.permissions import LaunchPermissions

admin.site.unregister(Promotion)


class RollbackForm(BaseDialogForm):  # type: ignore[misc]
    """Why."""

    reason = forms.CharField(
        max_length=500, widget=UnfoldAdminTextInputWidget, help_text="Is recorded with the switch."
    )


DIALOG = {
    "title": "Roll back?",
    "description": "What this promotion put live serves no more: the very stack that served before it goes live again.",
    "form_class": RollbackForm,
    "form_submit_text": "Roll back",
}


@admin.register(Promotion)
class RollbackPromotionAdmin(LaunchPermissions, PromotionAdmin):
    """The same, with the way back from each row."""

    actions_row = ["roll_back"]

    @action(description="Roll back", permissions=["promote"], dialog=DIALOG)
    def roll_back(self, request: HttpRequest, form: RollbackForm, object_id: str) -> HttpResponse:
        """Refused unless the promotion's stack is the one that serves."""
        promotion = get_object_or_404(Promotion, pk=object_id)
        user = cast(User, request.user)
        try:
            if promotion.is_rollback:
                raise InputError("That is a rollback itself: choose the promotion of what is to serve no more.")
            stack = roll_back(promotion.stack, reason=form.cleaned_data["reason"], user=user)
        except EngineError as error:
            raise InputError(str(error)) from error
        self.message_user(request, f"{stack} is live.", messages.SUCCESS)
        return HttpResponse(headers={"HX-Redirect": reverse("admin:adapters_promotion_changelist")})
