from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workers", "0006_modal_volumes")]

    operations = [
        migrations.AddField(
            model_name="attempt",
            name="cancel_due_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When to tell the backend again that nobody waits for the job; it did not listen.",
                null=True,
            ),
        ),
    ]
