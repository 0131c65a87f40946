"""Build the tiny base from nothing: `python -m adapters.backbone.tiny [--out DIR] [--steps N] [--seed N]`."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import Qwen3VLForConditionalGeneration

from adapters.backbone.processor import ScreenshotProcessor
from adapters.backbone.spec import TINY_BASE

from .batches import corpus, draw_screens
from .config import image_processor, model_config
from .pretrain import held_out, learn_to_answer, learn_to_read, look
from .tokenizer import CHAT_TEMPLATE, train_tokenizer

CORPUS = 2000
HELD_OUT = 1200


def build(out: Path, screens: int, reading_steps: int, steps: int, seed: int) -> dict[str, tuple[int, int]]:
    """Train on `screens` screens and save to `out`; returns (right, asked) on screens of another seed."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(corpus(CORPUS, seed))
    model = Qwen3VLForConditionalGeneration(model_config(tokenizer))
    drawn = draw_screens(screens, f"train/{seed}")
    learn_to_read(model.model.visual, drawn, reading_steps, seed)
    learn_to_answer(model, tokenizer, drawn, look(model.model.visual, drawn), steps, seed)
    model = model.to(torch.bfloat16)
    save(model, ScreenshotProcessor(image_processor(), tokenizer, CHAT_TEMPLATE), out)
    # The figures are those of the weights as they were saved, rounded to 16 bits.
    return held_out(model.float(), tokenizer, draw_screens(HELD_OUT, f"held-out/{seed}"), seed)


def save(model: Qwen3VLForConditionalGeneration, processor: ScreenshotProcessor, out: Path) -> None:
    """Write model and processor to `out`, replacing what is there once everything is written."""
    model.generation_config.eos_token_id = [processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id]
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as staging:
        whole = Path(staging) / "whole"
        model.save_pretrained(whole)
        processor.save_pretrained(whole)
        for path in whole.iterdir():
            path.chmod(0o644)
        if out.exists():
            shutil.rmtree(out)
        whole.rename(out)


def wilson(right: int, asked: int) -> tuple[float, float]:
    """The 95% interval of a share, after Wilson (1927)."""
    z, share = 1.96, right / asked
    middle = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z / (1 + z * z / asked) * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return middle - half, middle + half


def main(argv: Sequence[str] | None = None) -> int:
    """Build, then print what the base answers right on unseen screens."""
    parser = argparse.ArgumentParser(prog="python -m adapters.backbone.tiny", description="Build the tiny base.")
    parser.add_argument("--out", type=Path, default=TINY_BASE)
    parser.add_argument("--screens", type=int, default=8000, help="screens to draw and learn from (default 8000)")
    parser.add_argument("--reading-steps", type=int, default=1200, help="steps of 16 for the vision tower")
    parser.add_argument("--steps", type=int, default=1200, help="steps of 32 for the language model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(argv)
    for name in ("screens", "reading_steps", "steps", "threads"):
        if getattr(options, name) < 1:
            print(f"error: --{name.replace('_', '-')} must be at least 1.", file=sys.stderr)
            return 2
    torch.set_num_threads(options.threads)
    figures = build(options.out, options.screens, options.reading_steps, options.steps, options.seed)
    figures["all"] = (sum(right for right, _ in figures.values()), sum(asked for _, asked in figures.values()))
    print("Held-out screens, one question each, the whole answer right:")
    for name, (right, asked) in sorted(figures.items()):
        low, high = wilson(right, asked)
        print(f"  {name:24} {right:4}/{asked:<4} {right / asked:6.1%}  (95%: {low:.1%} to {high:.1%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
