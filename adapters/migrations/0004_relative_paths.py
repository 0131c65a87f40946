from typing import Any

from django.db import migrations

import datasets_app.fields
from datasets_app.fields import found, store_again


def make_relative(apps: Any, _: Any) -> None:
    store_again(apps.get_model("adapters", "Evaluation"), "path", found)


class Migration(migrations.Migration):
    dependencies = [("adapters", "0003_promotion_created_by")]

    operations = [
        migrations.AlterField(
            model_name="evaluation",
            name="path",
            field=datasets_app.fields.DataPathField(
                help_text="Folder with report.json and report.html.", max_length=1024
            ),
        ),
        migrations.RunPython(make_relative, migrations.RunPython.noop),
    ]
