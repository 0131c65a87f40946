"""The libraries that a recipe's result depends on."""

from __future__ import annotations

from importlib.metadata import version

PACKAGES: dict[str, tuple[str, ...]] = {
    "generate_dataset": ("pillow", "imagehash"),
    "preprocess": ("pillow", "imagehash", "transformers", "tokenizers", "datasets"),
    "train": ("torch", "transformers", "peft", "trl", "accelerate", "tokenizers", "datasets", "pillow"),
    "evaluate": ("torch", "transformers", "peft", "tokenizers", "datasets", "pillow"),
    "fetch": (),
}


def versions(recipe: str) -> dict[str, str]:
    """The installed version of each library that decides what the recipe makes."""
    return {name: version(name) for name in PACKAGES[recipe]}
