from collections.abc import Iterable
from typing import Any

import django.db.models.deletion
from django.db import migrations, models


def record_alerts(apps: Any, _: Any) -> None:
    """An alert for each thing that was told; what a channel has taken counts as read."""
    alert_model, notification_model = (apps.get_model("workers", name) for name in ("Alert", "Notification"))
    for key in list(notification_model.objects.order_by().values_list("key", flat=True).distinct()):
        told: Iterable[Any] = notification_model.objects.filter(key=key).order_by("id")
        first, sent = next(iter(told)), [row.sent_at for row in told if row.sent_at]
        details = dict(first.payload)
        own = {"text": details.pop("text", first.subject), "level": details.pop("level", "info")}
        details.pop("key", None)
        alert = alert_model.objects.create(key=key, details=details, read_at=min(sent, default=None), **own)
        alert_model.objects.filter(pk=alert.pk).update(created_at=first.created_at)
        notification_model.objects.filter(key=key).update(alert=alert)


class Migration(migrations.Migration):
    dependencies = [("workers", "0013_run_seen_at")]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(help_text="What happened; recorded once.", max_length=128, unique=True)),
                ("level", models.CharField(choices=[("info", "Info"), ("alert", "Alert")], max_length=8)),
                ("text", models.TextField()),
                ("details", models.JSONField(default=dict, help_text="Further facts, for the webhook.")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("read_at", models.DateTimeField(blank=True, help_text="Empty: unread.", null=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["read_at", "level"], name="alert_unread")],
            },
        ),
        migrations.RenameModel("Notice", "Notification"),
        migrations.AddField(
            model_name="notification",
            name="alert",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="notifications",
                to="workers.alert",
            ),
        ),
        migrations.RunPython(record_alerts, migrations.RunPython.noop),
    ]
