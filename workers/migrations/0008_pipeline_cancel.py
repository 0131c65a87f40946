from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workers", "0007_attempt_cancel_due")]

    operations = [
        migrations.AddField(
            model_name="pipeline",
            name="cancel_requested_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
