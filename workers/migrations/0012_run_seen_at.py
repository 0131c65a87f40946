from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workers", "0011_runs_indexes")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="seen_at",
            field=models.DateTimeField(blank=True, help_text="When somebody last looked after it.", null=True),
        ),
    ]
