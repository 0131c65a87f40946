"""The dialog in which a router is put live."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from datasets_app.admin.forms import NamesField


class PromotionForm(BaseDialogForm):  # type: ignore[misc]
    """What may be lost, and why nothing is compared."""

    drop = NamesField(help_text="Classes that serve and may be lost, with commas between them.")
    force_reason = forms.CharField(
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text="Only to promote without the comparison of evaluations: why. It is recorded with the promotion.",
    )

    @property
    def asked(self) -> dict[str, Any]:
        """The arguments of the service."""
        return {"drop": self.cleaned_data["drop"], "force_reason": self.cleaned_data["force_reason"] or None}


DIALOG = {
    "title": "Put this router live?",
    "description": "With the current version of each expert. Its evaluations must show that no class suffers.",
    "form_class": PromotionForm,
    "form_submit_text": "Put live",
}
