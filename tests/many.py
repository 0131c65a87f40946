"""Many rows of everything."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.utils import timezone

from adapters.models import Adapter, BaseModel, Evaluation, Promotion
from tests.cast import (
    EXPERTS,
    digest,
    make_adapter,
    make_evaluation,
    make_prepared,
    make_routing_dataset,
    make_run,
    make_stack,
    make_version,
)
from workers.models import Alert, Notification, Pipeline, Slot
from workers.states import Status


def add_rows(numbers: range) -> None:
    """A row more of everything that there may be many of for each number, with relations of its own."""
    for number in numbers:
        base = BaseModel.objects.create(name=f"base-{number}", fingerprint=digest(f"base {number}"), path="/nowhere")
        experts = [make_version(make_adapter(f"expert-{number}-{part}")) for part in range(2)]
        router = make_version(make_adapter(f"router-{number}", Adapter.Kind.ROUTER), labels=EXPERTS)
        Adapter.objects.filter(name__contains=f"-{number}").update(base=base)
        stack, user = make_stack(router, experts), User.objects.create_user(f"user-{number}")
        dataset = make_routing_dataset(f"routing-{number}")
        dataset.sources.set([expert.adapter.source for expert in experts])
        prepared = make_prepared(dataset)
        evaluation = make_evaluation(router)
        Evaluation.objects.filter(pk=evaluation.pk).update(stack=stack)
        pipeline = Pipeline.objects.create(name=f"pipeline-{number}", promoted=stack, created_by=user)
        results = {"routing_dataset": dataset}, {"prepared_dataset": prepared}, {"adapter_version": router}
        earlier = None
        for step, result in enumerate((*results, {"evaluation": evaluation})):
            fields = {"pipeline": pipeline, "step": step, "created_by": user, "reused_from": earlier, **result}
            earlier = make_run(f"run-{number}-{step}", Status.SUCCEEDED, **fields)
            earlier.attempts.create(number=1)
        Promotion.objects.create(stack=stack, previous=stack, evaluation=evaluation, created_by=user)
        alert = Alert.objects.create(key=f"alert-{number}", level=Alert.Level.INFO, text="x")
        Notification.objects.create(alert=alert, channel=Notification.Channel.EMAIL)
        Slot.objects.create(schedule=f"schedule-{number}", at=timezone.now(), pipeline=pipeline)
