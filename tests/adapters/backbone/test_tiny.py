"""The shipped tiny base, and what it was pretrained on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch

from adapters.backbone.loading import load_model, load_processor
from adapters.backbone.processor import ScreenshotProcessor
from adapters.backbone.spec import TINY_BASE, BaseSpec
from adapters.backbone.tiny.pretrain import held_out
from adapters.backbone.tiny.questions import TOPICS, corpus
from datasets_app.samples.kinds import KINDS as SAMPLES
from datasets_app.samples.screen import Screen

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def processor() -> ScreenshotProcessor:
    return load_processor(BaseSpec())


def test_pretraining_names_no_adapter_and_no_experts_tool() -> None:
    text = "\n".join(corpus(3000, Random(5)))
    tools = {
        SAMPLES[name].draw(Screen(Random(1))).answer.split('"name": "')[1].split('"')[0]
        for name in ("calendar", "claim-window", "provider-select")
    }
    assert len(tools) == 3
    for name in (*SAMPLES, *tools):
        assert name == "other" or name not in text


def test_the_shipped_base_answers_generic_questions_on_unseen_screens(processor: ScreenshotProcessor) -> None:
    tally = held_out(load_model(BaseSpec()), processor, 200, Random("other screens"))
    for topic in set(TOPICS) - {"name to say"}:  # names of random letters only keep every piece of text sayable
        right, asked = tally[topic]
        assert right / asked > 0.4, tally  # by chance: a thirtieth of the places, none of the codes


def test_the_shipped_base_is_small_and_in_bf16() -> None:
    weights = TINY_BASE / "model.safetensors"
    assert weights.stat().st_size < 8_000_000
    assert load_model(BaseSpec(dtype="bfloat16")).dtype == torch.bfloat16
    assert load_model(BaseSpec()).dtype == torch.float32


def test_the_processor_survives_saving_and_loading(processor: ScreenshotProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((TINY_BASE / "config.json").read_bytes())
    again = load_processor(BaseSpec(path=str(tmp_path)))
    image = SAMPLES["calendar"].draw(Screen(Random(3))).image
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which row?"}]}],
        add_generation_prompt=True,
    )
    first, second = (p(text=[text], images=[image], return_tensors="pt") for p in (processor, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_digits_are_single_tokens_and_text_survives(processor: ScreenshotProcessor) -> None:
    tokenizer = processor.tokenizer
    assert len(tokenizer("4711").input_ids) == 4
    text = '<tool_call>\n{"name": "x", "arguments": {"ä": "漢"}}\n</tool_call>'
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_build_runs_from_nothing(tmp_path: Path) -> None:
    words = ["--out", str(tmp_path / "base"), "--seeing-steps", "2", "--answering-steps", "1", "--scenes", "50"]
    done = subprocess.run(
        [sys.executable, "-m", "adapters.backbone.tiny", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(topic in done.stdout for topic in TOPICS)
    assert load_model(BaseSpec(path=str(tmp_path / "base"))).num_parameters() > 2_000_000
