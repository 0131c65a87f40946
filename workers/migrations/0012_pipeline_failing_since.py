from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workers", "0011_runs_indexes")]

    operations = [
        migrations.AddField(
            model_name="pipeline",
            name="failing_since",
            field=models.DateTimeField(
                blank=True, help_text="Since when each try to conclude it has failed.", null=True
            ),
        ),
        migrations.RemoveField(model_name="pipeline", name="retried_at"),
    ]
