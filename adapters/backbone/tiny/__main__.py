"""Build the tiny base from nothing: `python -m adapters.backbone.tiny --out DIR`.

Prints its held-out figures, each with its 95% interval.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from scipy.stats import binomtest
from torch import nn
from transformers import Qwen3VLForConditionalGeneration

import adapters.backbone  # noqa: F401 - sets how OpenMP waits, before torch is imported
from adapters.backbone.processor import ScreenshotProcessor

from .config import image_processor, model_config
from .pretrain import held_out, learn_to_answer, learn_to_see, look
from .questions import corpus
from .tokenizer import CHAT_TEMPLATE, train_tokenizer

SEEING_STEPS, ANSWERING_STEPS = 1000, 2500
SCENES = 8000
"""Screens that the questions are about; each is looked at once, and asked about many times."""
HELD_OUT = 500


def main(argv: Sequence[str] | None = None) -> int:
    """Build, save and measure; exit code 2 for an output folder that holds something."""
    parser = argparse.ArgumentParser(prog="python -m adapters.backbone.tiny", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its processor")
    parser.add_argument("--seeing-steps", type=int, default=SEEING_STEPS, help="default: %(default)s")
    parser.add_argument("--answering-steps", type=int, default=ANSWERING_STEPS, help="default: %(default)s")
    parser.add_argument("--scenes", type=int, default=SCENES, help="screens to ask about, default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args(argv)
    if options.out.exists() and any(options.out.iterdir()):
        print(f"{options.out} holds something already: name a new folder.", file=sys.stderr)
        return 2
    model, processor = build(options.seeing_steps, options.answering_steps, options.scenes, options.seed)
    save(model, processor, options.out)
    for topic, (right, asked) in held_out(model, processor, HELD_OUT, Random(f"held-out/{options.seed}")).items():
        low, high = binomtest(right, asked).proportion_ci(method="wilson")
        print(f"{topic:15} {right:4} of {asked:4} right, {right / asked:6.1%} ({low:.1%} to {high:.1%})")
    return 0


def build(
    seeing_steps: int, answering_steps: int, scenes: int, seed: int
) -> tuple[Qwen3VLForConditionalGeneration, ScreenshotProcessor]:
    """Tokenizer, model and all of its training, with a bar for each part."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(corpus(1500, Random(f"corpus/{seed}")))
    processor = ScreenshotProcessor(image_processor(), tokenizer, CHAT_TEMPLATE)
    model = Qwen3VLForConditionalGeneration(model_config(tokenizer))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    rng = Random(f"questions/{seed}")
    learn_to_see(model, processor, seeing_steps, rng)
    learn_to_answer(model, processor, *look(model, processor, scenes, rng), answering_steps, rng)
    return model, processor


def save(model: Qwen3VLForConditionalGeneration, processor: ScreenshotProcessor, out: Path) -> None:
    """Write bf16 weights and the processor; `model` itself then holds what was written."""
    nn.Module.to(model, torch.bfloat16)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    processor.save_pretrained(partial)
    if out.exists():
        out.rmdir()
    partial.rename(out)
    model.float()


if __name__ == "__main__":
    sys.exit(main())
