from typing import Any

from django.db import migrations

import datasets_app.fields
from datasets_app.fields import found, store_again

HELP = "Folder with one or more .jsonl files and their images, on the server or as volume:path on Modal."


def make_relative(apps: Any, _: Any) -> None:
    for name in ("SourceDataset", "RoutingDataset", "PreparedDataset"):
        store_again(apps.get_model("datasets_app", name), "path", found)


class Migration(migrations.Migration):
    dependencies = [("datasets_app", "0003_source_screens")]

    operations = [
        migrations.AlterField(
            model_name="prepareddataset",
            name="path",
            field=datasets_app.fields.DataPathField(max_length=1024, unique=True),
        ),
        migrations.AlterField(
            model_name="routingdataset",
            name="path",
            field=datasets_app.fields.DataPathField(max_length=1024),
        ),
        migrations.AlterField(
            model_name="sourcedataset",
            name="path",
            field=datasets_app.fields.DataPathField(help_text=HELP, max_length=1024),
        ),
        migrations.RunPython(make_relative, migrations.RunPython.noop),
    ]
