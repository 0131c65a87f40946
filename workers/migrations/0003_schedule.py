"""The schedule that an installation begins with; people edit it in the admin."""

from typing import Any

from django.db import migrations

NAME = "Re-evaluate what serves"


def begin(apps: Any, schema_editor: Any) -> None:
    crontab, _ = apps.get_model("django_celery_beat", "CrontabSchedule").objects.get_or_create(
        minute="0", hour="3", day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
    )
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=NAME,
        defaults={
            "task": "workers.tasks.reevaluate",
            "crontab": crontab,
            "kwargs": '{"fresh_samples": 0, "rollback": false}',
            "description": "fresh_samples: of each class, newly drawn from the sources; rollback: go back to the "
            "stack before after a significant fall.",
        },
    )


class Migration(migrations.Migration):
    dependencies = [
        ("workers", "0002_pipelines"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(begin, migrations.RunPython.noop)]
