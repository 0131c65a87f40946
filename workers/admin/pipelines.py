"""Pipelines."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from adapters.models import Adapter
from datasets_app.admin.base import ServiceAdmin, action, display, link, pretty
from datasets_app.admin.filters import CREATED, one_of
from datasets_app.admin.forms import JSONObjectField, comma_separated
from datasets_app.errors import InputError
from datasets_app.models import SourceDataset
from workers.admin.account import AccountBanner
from workers.admin.backends import BackendField
from workers.admin.expectation import PIPELINES, expectation
from workers.admin.permissions import LaunchPermissions
from workers.admin.progress import bar
from workers.admin.runs import STATUS_COLOURS
from workers.models import Pipeline
from workers.recipes.sizing import DEFAULT_WORDS
from workers.selectors import with_runs
from workers.services import (
    add_expert,
    cancel_unless_over,
    launch_router_pipeline,
    reevaluate,
    retrain_router,
    retry_pipeline,
    sizes_of,
    source_sizes,
)
from workers.states import TERMINAL

MOST_LISTED = 30
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
    drop = forms.CharField(
        required=False,
        max_length=4096,
        widget=UnfoldAdminTextInputWidget,
        help_text="Classes that serve and are to be removed, with commas between them.",
    )
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
        """Call the service that the wish is for."""
        wish = self.cleaned_data
        common: dict[str, Any] = {"backend": wish["backend"] or None, "user": user}
        named: dict[str, Any] = {"pipeline": wish["name"] or None, **common}
        given: dict[str, Any] = {
            "negatives": [source.name for source in wish["negatives"]] or None,
            "samples_per_class": wish["samples_per_class"],
            "seed": wish["seed"],
            "max_pixels": wish["max_pixels"],
            "train": (wish["train"] or {}) | ACTIVATED[wish["activated"]] or None,
        }
        adapters = [adapter.name for adapter in wish["adapters"]]
        promotion: dict[str, Any] = {
            "live": wish["live"] or Pipeline.Live.IF_BETTER.value,
            "margin": wish["margin"],
            "floor": wish["floor"],
            "drop": comma_separated(wish["drop"]) or None,
        }
        match wish["kind"]:
            case Pipeline.Kind.ADD_EXPERT:
                if not wish["source"]:
                    raise InputError("source: an expert needs its source dataset.")
                files = {"source": wish["source"], "adapter": wish["files"] or None}
                return add_expert(wish["expert"], **files, **promotion, **given, **named)
            case Pipeline.Kind.RETRAIN_ROUTER:
                return retrain_router(adapters=adapters or None, **promotion, **given, **named)
            case Pipeline.Kind.REEVALUATE:
                return reevaluate(fresh_samples=wish["fresh_samples"], rollback=wish["rollback"], **named)
        chosen = {key: value for key, value in given.items() if value is not None}
        router = wish["router"] or "router"
        return launch_router_pipeline(wish["name"] or None, adapters=adapters, router=router, **common, **chosen)


def _margins() -> SafeString:
    """The default in words, and what each source holds out by it."""
    sizes = source_sizes(SourceDataset.objects.all()[:MOST_LISTED])
    listed = format_html_join("", "<br>{}", ((str(size),) for size in sizes))
    return format_html("Default: as it is, or {}.{}", DEFAULT_WORDS, listed)


@admin.register(Pipeline)
class PipelineAdmin(AccountBanner, LaunchPermissions, ServiceAdmin):
    """Adding a pipeline launches it."""

    form = PipelineForm
    refusal_fields = {"adapter": "files", "pipeline": "name", "config": "train"}
    list_display = ["name", "kind", "status_label", "step_bars", "verdict", "created_at"]
    list_filter = ["kind", one_of("outcome", lambda: sorted(TERMINAL)), CREATED]
    search_fields = ["name", "verdict"]
    actions = ["cancel_pipelines", "retry_pipelines"]
    launch_fieldsets = [
        (None, {"fields": ["kind", "name", "live", "backend"]}),
        ("To go live", {"fields": ["margin", "floor", "drop"]}),
        ("The expert to add", {"fields": ["expert", "source", "files"]}),
        (
            "The router",
            {
                "fields": [
                    "adapters",
                    "negatives",
                    "router",
                    "samples_per_class",
                    "seed",
                    "max_pixels",
                    "activated",
                    "train",
                ]
            },
        ),
        ("To evaluate again", {"fields": ["fresh_samples", "rollback"]}),
    ]
    record_fields = [
        "name",
        "kind",
        "status_label",
        "verdict",
        "trouble",
        "step_bars",
        "live",
        "promoted_link",
        "wish_text",
        "created_by",
        "created_at",
        "finished_at",
    ]

    class Media:
        js = ["workers/live.js"]
        css = {"all": ["workers/live.css"]}

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A pipeline is a record."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A pipeline is a record."""
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Pipeline | None = None) -> Any:
        """The wish, or the record."""
        return [(None, {"fields": self.record_fields})] if obj else self.launch_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Pipeline | None = None) -> list[str]:
        """Everything, once it is launched."""
        return self.record_fields if obj else []

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pipeline]:
        """With their steps."""
        return with_runs(super().get_queryset(request))

    def get_form(self, request: HttpRequest, obj: Pipeline | None = None, **kwargs: Any) -> Any:
        """A name is made up where none is given."""
        form = super().get_form(request, obj, **kwargs)
        if obj is None and "name" in form.base_fields:
            form.base_fields["name"].required = False
            form.base_fields["kind"].help_text = expectation(PIPELINES)
            form.base_fields["samples_per_class"].help_text = _margins()
        return form

    def save_model(self, request: HttpRequest, obj: Pipeline, form: Any, change: bool) -> None:
        """Call the service."""
        obj.pk = form.launch(cast(User, request.user)).pk
        obj.refresh_from_db()
        for size in sizes_of(obj):
            self.message_user(request, f"{size}.")

    @action(description="Cancel the selected pipelines", permissions=["cancel"])
    def cancel_pipelines(self, request: HttpRequest, queryset: QuerySet[Pipeline]) -> None:
        """Every run of them that is not over."""
        self.apply(request, queryset, cancel_unless_over)

    @action(description="Retry the selected pipelines from the step that failed", permissions=["launch"])
    def retry_pipelines(self, request: HttpRequest, queryset: QuerySet[Pipeline]) -> None:
        """What has succeeded is kept."""
        self.apply(request, queryset, retry_pipeline)

    @display(description="put live")
    def promoted_link(self, obj: Pipeline) -> str:
        """The stack that it put live."""
        return link(obj.promoted)

    @display(description="wish")
    def wish_text(self, obj: Pipeline) -> str:
        """What was asked for."""
        return pretty(obj.wish)

    @display(description="status", label=STATUS_COLOURS)
    def status_label(self, obj: Pipeline) -> str:
        """As a badge."""
        return obj.status.value

    @display(description="steps")
    def step_bars(self, obj: Pipeline) -> str:
        """A bar for each."""
        url = reverse("admin:workers_run_progress")
        rows = format_html_join("", "<li>{}{}</li>", ((link(run, run.kind), bar(run, url)) for run in obj.steps))
        return format_html('<ol class="run-steps">{}</ol>', rows)
