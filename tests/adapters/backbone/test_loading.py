"""Refusals of a base model that cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from adapters.backbone.loading import load_model, load_processor, resolve_device
from adapters.backbone.spec import TINY_BASE, BaseError, BaseSpec, fingerprint, pick_dtype, pixel_budget


def test_a_folder_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BaseError, match="neither a folder nor a hub id"):
        load_model(BaseSpec(path="/no/such/folder"))


def test_a_hub_id_needs_a_pinned_revision() -> None:
    with pytest.raises(BaseError, match="pin its revision"):
        fingerprint(BaseSpec(path="Qwen/Qwen3-VL-8B-Instruct"))


def test_a_hub_id_is_told_apart_by_its_revision() -> None:
    first, second = (fingerprint(BaseSpec(path="Qwen/Qwen3-VL-8B-Instruct", revision=name * 40)) for name in "ab")
    assert first != second


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    config = json.loads((TINY_BASE / "config.json").read_text()) | {"architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BaseError, match="LlamaForCausalLM"):
        load_model(BaseSpec(path=str(tmp_path)))


def test_a_folder_without_a_processor_is_refused(tmp_path: Path) -> None:
    shutil.copy(TINY_BASE / "config.json", tmp_path)
    with pytest.raises(BaseError):
        load_processor(BaseSpec(path=str(tmp_path)))
    with pytest.raises(BaseError, match="pixel budget"):
        pixel_budget(BaseSpec(path=str(tmp_path)))


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(BaseError, match=device):
        resolve_device(device)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(BaseError, match="float8"):
        load_model(BaseSpec(dtype="float8"))


def test_auto_is_bfloat16_for_a_large_base_on_a_gpu_and_else_float32(tmp_path: Path) -> None:
    hub = BaseSpec("Qwen/Qwen3-VL-8B-Instruct", "a" * 40)
    assert pick_dtype("auto", "cuda", hub) == "bfloat16"
    assert {pick_dtype("auto", "cpu", hub), pick_dtype("auto", "cuda", BaseSpec())} == {"float32"}
    assert load_model(BaseSpec(dtype="auto")).dtype == torch.float32


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    copy = shutil.copytree(TINY_BASE, tmp_path / "copy")
    assert fingerprint(BaseSpec(path=str(copy))) == fingerprint(BaseSpec())
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert fingerprint(BaseSpec(path=str(copy))) != fingerprint(BaseSpec())


def test_patches_are_read_by_a_product_that_gives_what_the_convolution_does() -> None:
    model = load_model(BaseSpec())
    convolving = Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_pretrained(TINY_BASE)).eval()
    convolving.load_state_dict(load_file(TINY_BASE / "model.safetensors"), strict=False)
    torch.manual_seed(0)
    patches, grid = torch.randn(64, 3 * 2 * 16 * 16), torch.tensor([[1, 8, 8]])
    with torch.no_grad():
        told, truth = (each.model.visual(patches, grid).pooler_output for each in (model, convolving))
    assert not any(isinstance(module, torch.nn.Conv3d) for module in model.modules())
    torch.testing.assert_close(told, truth, rtol=1e-4, atol=1e-4)
