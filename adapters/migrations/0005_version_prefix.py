from typing import Any

from django.db import migrations, models

from adapters.card import prefix_digest


def fill(apps: Any, _: Any) -> None:
    for version in apps.get_model("adapters", "AdapterVersion").objects.only("card").iterator(chunk_size=100):
        version.prefix = prefix_digest(version.card)
        version.save(update_fields=["prefix"])


class Migration(migrations.Migration):
    dependencies = [("adapters", "0004_relative_paths")]

    operations = [
        migrations.AddField(
            "adapterversion",
            "prefix",
            models.CharField(
                default="",
                editable=False,
                help_text="Hash of what the base alone reads for it; empty for a plain LoRA.",
                max_length=71,
            ),
            preserve_default=False,
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
