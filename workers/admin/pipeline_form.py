"""The form that launches a pipeline."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from adapters.models import Adapter
from datasets_app.admin.forms import JSONObjectField, NamesField
from datasets_app.errors import InputError
from datasets_app.models import SourceDataset
from workers.admin.backends import BackendField
from workers.models import Pipeline
from workers.services import add_expert, launch_router_pipeline, reevaluate, retrain_router

ACTIVATED: dict[str, dict[str, bool]] = {"": {}, "yes": {"activated": True}, "no": {"activated": False}}


class PipelineForm(forms.ModelForm):  # type: ignore[type-arg]
    """What is to be done; each kind takes the fields it needs."""

    kind = forms.ChoiceField(
        choices=[
            (Pipeline.Kind.ADD_EXPERT.value, "Add an expert to what serves"),
            (Pipeline.Kind.RETRAIN_ROUTER.value, "Train the serving router anew"),
            (Pipeline.Kind.REEVALUATE.value, "Evaluate what serves again"),
            (Pipeline.Kind.ROUTER.value, "Train a router between chosen experts"),
        ],
        required=False,
        widget=UnfoldAdminSelectWidget,
    )
    live = forms.ChoiceField(
        choices=[
            (Pipeline.Live.IF_BETTER.value, "if its evaluation shows a gain and no loss"),
            (Pipeline.Live.NEVER.value, "never: it waits as the challenger"),
        ],
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="When the new router goes live.",
    )
    margin = forms.FloatField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="No class that serves may fall by so much, as 0.05 for 5 points (default: the setting).",
    )
    floor = forms.FloatField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="The recall that a new class must exceed, as 0.8 (default: the setting).",
    )
    drop = NamesField(help_text="Classes that serve and are to be removed, with commas between them.")
    backend = BackendField(help_text="Where its steps run.")
    expert = forms.CharField(
        required=False,
        max_length=64,
        widget=UnfoldAdminTextInputWidget,
        help_text="Its name: the label that the router answers.",
    )
    source = forms.CharField(
        required=False,
        max_length=1024,
        widget=UnfoldAdminTextInputWidget,
        help_text="Its source dataset: a folder on the server, volume:path on Modal, or a registered name.",
    )
    files = forms.CharField(  # type: ignore[assignment]
        required=False,
        max_length=1024,
        widget=UnfoldAdminTextInputWidget,
        help_text="Folder with its files, on the server or as volume:path on Modal; empty: it is trained first.",
    )
    adapters = forms.ModelMultipleChoiceField(
        Adapter.objects.filter(kind=Adapter.Kind.EXPERT, source__isnull=False),
        to_field_name="name",
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="The experts that a router is to choose between (default: as it is).",
    )
    negatives = forms.ModelMultipleChoiceField(
        SourceDataset.objects.all(),
        to_field_name="name",
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="Sources of screens that no expert is meant for (default: as they are).",
    )
    router = forms.CharField(initial="router", required=False, widget=UnfoldAdminTextInputWidget)
    samples_per_class = forms.IntegerField(
        min_value=1,
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    seed = forms.IntegerField(min_value=0, required=False, widget=UnfoldAdminIntegerFieldWidget)
    max_pixels = forms.IntegerField(
        min_value=1,
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Of a screenshot that the router sees; fewer make routing cheaper. Default: as it is, or the base's.",
    )
    activated = forms.ChoiceField(
        choices=[("", "as the serving router"), ("yes", "activated LoRA"), ("no", "plain LoRA")],
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="Activated ones continue what the base has read of screenshot and words, once for all of them.",
    )
    train = JSONObjectField(
        initial=dict,
        required=False,
        widget=UnfoldAdminTextareaWidget,
        help_text='Fields of the training recipe, as {"max_steps": 100}.',
    )
    fresh_samples = forms.IntegerField(
        min_value=0,
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Of each class, newly drawn from the sources (default: as many as were held out for the router).",
    )
    rollback = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="After a significant fall, the stack before goes live again.",
    )

    class Meta:
        model = Pipeline
        fields = ["name"]

    def launch(self, user: User) -> Pipeline:
        """Call the service of the chosen kind."""
        data = self.cleaned_data
        common: dict[str, Any] = {"backend": data["backend"] or None, "user": user}
        named: dict[str, Any] = {"pipeline": data["name"] or None, **common}
        given: dict[str, Any] = {
            "negatives": [source.name for source in data["negatives"]] or None,
            "samples_per_class": data["samples_per_class"],
            "seed": data["seed"],
            "max_pixels": data["max_pixels"],
            "train": (data["train"] or {}) | ACTIVATED[data["activated"]] or None,
        }
        adapters = [adapter.name for adapter in data["adapters"]]
        promotion: dict[str, Any] = {
            "live": data["live"] or Pipeline.Live.IF_BETTER.value,
            "margin": data["margin"],
            "floor": data["floor"],
            "drop": data["drop"] or None,
        }
        match data["kind"]:
            case Pipeline.Kind.ADD_EXPERT:
                if not data["source"]:
                    raise InputError("source: an expert needs its source dataset.")
                files = {"source": data["source"], "adapter": data["files"] or None}
                return add_expert(data["expert"], **files, **promotion, **given, **named)
            case Pipeline.Kind.RETRAIN_ROUTER:
                return retrain_router(adapters=adapters or None, **promotion, **given, **named)
            case Pipeline.Kind.REEVALUATE:
                return reevaluate(fresh_samples=data["fresh_samples"], rollback=data["rollback"], **named)
        chosen = {key: value for key, value in given.items() if value is not None}
        router = data["router"] or "router"
        return launch_router_pipeline(data["name"] or None, adapters=adapters, router=router, **common, **chosen)
