from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workers", "0008_pipeline_cancel")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="failing_since",
            field=models.DateTimeField(
                blank=True, help_text="Since when each try to take it a step on has failed.", null=True
            ),
        ),
    ]
