"""What training leaves behind: the adapter's files, checked as they will be at registration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapters.card import AdapterCard
from adapters.peft_config import CONFIG_FILE
from adapters.validation import validate_adapter
from datasets_app.errors import InputError
from inference.engines.in_process.canaries import record
from inference.engines.in_process.runner import Runner
from workers.recipes.errors import RecipeError
from workers.recipes.packages import versions


def save(model: Any, processor: Any, card: AdapterCard, lineage: dict[str, Any], base_name: str, folder: Path) -> None:
    """Write the adapter that `model` (a PEFT model) holds, its card and its canaries, into `folder`.

    RecipeError if the adapter could not be registered: weights that are not finite, or that change nothing.
    """
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    config_file = folder / CONFIG_FILE
    config = json.loads(config_file.read_bytes())
    config["base_model_name_or_path"] = base_name
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    runner = Runner(model, processor)
    card = card.model_copy(update={"dtype": runner.dtype, "lineage": lineage | {"packages": versions("train")}})
    card.write(folder)
    try:
        record(runner, card, model.disable_adapter).write(folder)
        validate_adapter(folder, expected_base=card.base)
    except InputError as error:
        raise RecipeError(f"Training made no usable adapter: {error}") from error
