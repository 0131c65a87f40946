from typing import Any

from django.db import migrations

import datasets_app.fields
from datasets_app.fields import store_again


def make_relative(apps: Any, _: Any) -> None:
    store_again(apps.get_model("workers", "Run"), "spec")


class Migration(migrations.Migration):
    dependencies = [("workers", "0015_notifications")]

    operations = [
        migrations.AlterField(
            model_name="run",
            name="spec",
            field=datasets_app.fields.DataPathsField(
                default=dict, help_text="What the recipe was given; the same for every attempt."
            ),
        ),
        migrations.RunPython(make_relative, migrations.RunPython.noop),
    ]
