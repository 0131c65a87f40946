"""What a new installation does by itself: re-evaluate on fresh samples, too, and delete what is old."""

from typing import Any

from django.db import migrations

BEFORE = '{"fresh_samples": 0, "rollback": false}'
AFTER = '{"rollback": false}'
WORDS = (
    "fresh_samples: of each class, newly drawn from the sources (default: as many as were held out when the router was "
    "made); rollback: go back to the stack before after a significant fall."
)


def begin(apps: Any, schema_editor: Any) -> None:
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    tasks.filter(task="workers.tasks.reevaluate", kwargs=BEFORE).update(kwargs=AFTER, description=WORDS)
    crontab, _ = apps.get_model("django_celery_beat", "CrontabSchedule").objects.get_or_create(
        minute="30", hour="4", day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
    )
    tasks.get_or_create(
        name="Delete what is old",
        defaults={
            "task": "workers.tasks.prune",
            "crontab": crontab,
            "expire_seconds": 3600,
            "description": "RETENTION_DAYS says how old; manage.py prune --dry-run lists what would go.",
        },
    )


class Migration(migrations.Migration):
    dependencies = [("workers", "0009_run_failing_since")]

    operations = [migrations.RunPython(begin, migrations.RunPython.noop)]
