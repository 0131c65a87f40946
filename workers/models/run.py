"""One job."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from adapters.models import AdapterVersion, Evaluation
from datasets_app.fields import DataPathsField
from datasets_app.models import PreparedDataset, RoutingDataset
from datasets_app.validators import validate_name
from workers.models.pipeline import Pipeline
from workers.states import TERMINAL, UNSUCCESSFUL, Status


class Run(models.Model):
    """One job, from the wish to its result. The row is the record and the outbox; messages are only hints.

    `status` moves by `workers.services.moves.move` alone; `version` counts the moves, the leases taken over and the
    wish to cancel: whoever read the row before does not move it.
    """

    class Kind(models.TextChoices):
        GENERATE_DATASET = "generate_dataset"
        PREPROCESS = "preprocess"
        TRAIN = "train"
        EVALUATE = "evaluate"
        FETCH = "fetch"

    name = models.CharField(max_length=64, validators=[validate_name])
    kind = models.CharField(max_length=32, choices=Kind)
    params = models.JSONField(default=dict)
    inputs = models.JSONField(default=dict, help_text="Rows that the parameters' names meant at the launch.")
    spec = DataPathsField(default=dict, help_text="What the recipe was given; the same for every attempt.")
    backend = models.CharField(max_length=32)
    status = models.CharField(max_length=16, choices=Status, default=Status.QUEUED)
    version = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True, help_text="Until then nobody else looks at it.")
    moved_at = models.DateTimeField(null=True, blank=True, help_text="When the status last changed.")
    heartbeat_at = models.DateTimeField(
        null=True, blank=True, help_text="When the progress last changed, or could not have."
    )
    seen_at = models.DateTimeField(null=True, blank=True, help_text="When somebody last looked after it.")
    time_limit = models.PositiveIntegerField(null=True, blank=True, help_text="Seconds from the first launch.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    trouble = models.TextField(blank=True, help_text="What last kept the platform from taking it a step on.")
    failing_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when each try to take it a step on has failed."
    )
    progress = models.JSONField(default=dict)
    summary = models.JSONField(default=dict, help_text="What the job said of its result.")

    fingerprint = models.CharField(max_length=71, blank=True, help_text="Hash of kind, parameters and input content.")
    reuse = models.BooleanField(default=False, help_text="Take the result of the same work, where there is one.")
    reused_from = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="reused_by", help_text="Whose result it took."
    )

    pipeline = models.ForeignKey(Pipeline, models.CASCADE, null=True, blank=True, related_name="runs")
    step = models.PositiveSmallIntegerField(default=0)

    routing_dataset = models.ForeignKey(RoutingDataset, models.SET_NULL, null=True, blank=True, related_name="runs")
    prepared_dataset = models.ForeignKey(PreparedDataset, models.SET_NULL, null=True, blank=True, related_name="runs")
    adapter_version = models.ForeignKey(AdapterVersion, models.SET_NULL, null=True, blank=True, related_name="runs")
    evaluation = models.ForeignKey(Evaluation, models.SET_NULL, null=True, blank=True, related_name="runs")

    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            # No index of a part of the rows: SQLite cannot see that a query with parameters asks for those alone.
            models.Index(fields=["status", "kind", "backend", "-id"], name="run_status"),
            models.Index(fields=["name", "-id"], name="run_name"),
            models.Index(fields=["-created_at", "-id"], name="run_newest"),
            models.Index(fields=["fingerprint"], name="run_fingerprint"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["pipeline", "step"],
                condition=models.Q(pipeline__isnull=False) & ~models.Q(status__in=UNSUCCESSFUL),
                name="run_one_per_step",
            ),
            # A failed or cancelled run leaves its name to the next try.
            models.UniqueConstraint(
                fields=["name"], condition=~models.Q(status__in=UNSUCCESSFUL), name="run_name_in_use_once"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_over(self) -> bool:
        """Whether the status will never change again."""
        return self.status in TERMINAL

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody has asked it to end."""
        return self.cancel_requested_at is not None
