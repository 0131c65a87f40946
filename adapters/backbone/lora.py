"""Where a LoRA goes: the linear modules of the language layers, never the vision tower."""

LANGUAGE_TARGETS = r".*\.language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
"""PEFT `target_modules` as a regular expression: vision features stay the same under every adapter."""
