import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Apart from the rows' own migration: PostgreSQL changes no table whose foreign keys it has yet to check."""

    dependencies = [("workers", "0014_alerts")]

    operations = [
        migrations.RemoveConstraint(model_name="notification", name="notice_once_per_channel"),
        *(migrations.RemoveField(model_name="notification", name=name) for name in ("key", "subject", "payload")),
        migrations.AlterField(
            model_name="notification",
            name="alert",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="notifications", to="workers.alert"
            ),
        ),
        migrations.AddConstraint(
            model_name="notification",
            constraint=models.UniqueConstraint(
                fields=["alert", "channel"], name="notification_once_per_channel"
            ),
        ),
    ]
