from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workers", "0012_pipeline_failing_since")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="seen_at",
            field=models.DateTimeField(blank=True, help_text="When somebody last looked after it.", null=True),
        ),
    ]
