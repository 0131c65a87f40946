"""Train an adapter, router or expert alike: LoRA on the language layers of the frozen base.

The result is `final/` with `adapter_config.json`, `adapter_model.safetensors`, the card `switchyard.json` and its
canaries, `canaries.json`. A job that was killed resumes from its newest whole checkpoint and ends with the same weights
as one that was not.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from adapters.backbone.spec import TINY_BASE, BaseSpec, fingerprint
from datasets_app.errors import InputError
from workers.recipes.errors import RecipeError
from workers.recipes.files import write_atomically
from workers.recipes.job import Job, RecipeSpec
from workers.recipes.prepared import Prepared, load_split
from workers.recipes.training.checkpoints import is_whole, newest_whole
from workers.recipes.training.plan import Plan, plan

if TYPE_CHECKING:
    from workers.recipes.training.trainer import AdapterTrainer


NOT_IN_LINEAGE = {"data", "base", "base_revision", "threads", "cache_mb"}
"""Fields that say where, not what: the card names data and base by their content."""


STEPS = ("train",)


class Spec(RecipeSpec):
    """What is trained on what. Fields left out are chosen by base model and device, see `training.plan`."""

    data: Path = Field(description="folder that preprocess made")
    base: str = Field(str(TINY_BASE), description="base model: a folder or a hub id")
    base_revision: str | None = Field(None, description="commit of a base model from the hub")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="of the base's weights")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; default: torch's own choice")
    seed: int = Field(0, ge=0, lt=2**31, description="decides the first weights and the order of the samples")
    activated: bool = Field(
        False, description="activated LoRA: the base alone reads screenshot and words, once for all"
    )
    rank: int = Field(16, ge=1, le=1024, description="rank of the LoRA matrices")
    alpha: int = Field(32, ge=1, le=4096, description="LoRA scale: the update is multiplied by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in front of the LoRA matrices")
    learning_rate: float | None = Field(None, gt=0, le=1, description="peak learning rate")
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field("cosine", description="of the learning rate")
    warmup_steps: int = Field(5, ge=0, description="steps until the learning rate has its peak")
    weight_decay: float = Field(0.0, ge=0, le=1, description="AdamW's weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    max_steps: int | None = Field(None, ge=1, le=10_000_000, description="optimizer steps at most")
    batch_size: int = Field(16, ge=1, le=4096, description="samples in one optimizer step")
    micro_batch_size: int | None = Field(None, ge=1, description="samples in one forward pass; divides batch_size")
    gradient_checkpointing: bool | None = Field(None, description="less memory for more time")
    eval_every: int | None = Field(None, ge=1, description="steps between two validations, each a checkpoint")
    patience: int = Field(6, ge=1, description="validations without improvement until training stops")
    val_samples: int = Field(256, ge=1, description="validation samples used at most")
    cache_mb: int = Field(1024, ge=0, description="memory for what the frozen vision tower sees, in MiB")

    @model_validator(mode="after")
    def _divides(self) -> Spec:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError("micro_batch_size must divide batch_size")
        return self


def run(spec: Spec, job: Job) -> dict[str, Any]:
    """Train, and leave the best adapter in `job.out/final`; return what was reached.

    InputError if the data does not fit the base or lacks a split, RecipeError if training fails.
    """
    from workers.recipes.training.result import save

    started = time.monotonic()
    prepared = Prepared.read(spec.data)
    _check(spec, prepared)
    _claim_work(spec, prepared, job.work)
    planned = plan(spec, prepared.card.kind)
    trainer = _trainer(spec, planned, prepared, job)
    checkpoint = newest_whole(job.work)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    best = _best(trainer)
    hyperparameters = spec.model_dump(mode="json", exclude=NOT_IN_LINEAGE) | planned.to_dict()
    lineage = {
        "dataset": prepared.dataset,
        "split_seed": prepared.split_seed,
        "hyperparameters": hyperparameters,
        "best": best,
    }
    base_name = spec.base if spec.base_revision else prepared.card.base
    save(trainer.model, trainer.processing_class, trainer.card, lineage, base_name, job.out / "final")
    return {
        "kind": prepared.card.kind,
        "steps": trainer.state.global_step,
        "resumed_from": checkpoint.name if checkpoint else None,
        "best": best,
        "hyperparameters": hyperparameters,
        "seconds": round(time.monotonic() - started, 1),
    }


def _check(spec: Spec, prepared: Prepared) -> None:
    if prepared.card.base != fingerprint(BaseSpec(spec.base, spec.base_revision)):
        raise InputError(f"data: {str(spec.data)!r} was prepared for another base model; preprocess it for this one.")
    for side in ("train", "val"):
        if not prepared.counts.get(side):
            raise InputError(f"data: the {side} split of {str(spec.data)!r} is empty; training needs train and val.")


def _claim_work(spec: Spec, prepared: Prepared, work: Path) -> None:
    """Checkpoints of another spec, base or dataset, or of the same one split otherwise, are never resumed from; where
    those lie does not matter."""
    fields = spec.model_dump(mode="json", exclude={"data", "base", "base_revision", "threads", "cache_mb"})
    identity = json.dumps({"spec": fields, "data": prepared.model_dump(mode="json")})
    claim = work / "training.json"
    if claim.is_file() and claim.read_text(encoding="utf-8") != identity:
        raise InputError(f"{str(work)!r} holds the checkpoints of another training: use a new name or work folder.")
    work.mkdir(parents=True, exist_ok=True)
    write_atomically(claim, identity)


def _trainer(spec: Spec, planned: Plan, prepared: Prepared, job: Job) -> AdapterTrainer:
    import torch
    from peft import LoraConfig
    from transformers import EarlyStoppingCallback
    from trl.trainer.sft_config import SFTConfig

    from adapters.backbone.loading import load_model, load_processor
    from adapters.backbone.lora import LANGUAGE_TARGETS
    from inference.engines.in_process.runner import Runner
    from workers.recipes.training.layout import activated_card
    from workers.recipes.training.samples import Samples
    from workers.recipes.training.trainer import AdapterTrainer, Reporter, StopWhenSure, indices
    from workers.recipes.training.validation import expert_validation, router_validation

    if spec.threads:
        torch.set_num_threads(spec.threads)
    base = BaseSpec(spec.base, spec.base_revision, planned.dtype, planned.device)
    model, processor = load_model(base), load_processor(base)
    runner = Runner(model, processor)
    runner.check(prepared.card)
    train, val = load_split(spec.data, "train"), load_split(spec.data, "val")
    chosen = random.Random(0).sample(range(len(val)), min(spec.val_samples, len(val)))
    room = spec.cache_mb * 2**20
    card = activated_card(prepared.card, train["words"], runner.prompts.opening) if spec.activated else prepared.card
    samples = Samples(runner, card, train, room - room // 4)
    validate = router_validation if prepared.card.kind == "router" else expert_validation
    val_samples = Samples(runner, card, val.select(chosen), room // 4)
    arguments = SFTConfig(
        output_dir=str(job.work),
        max_steps=planned.max_steps,
        learning_rate=planned.learning_rate,
        lr_scheduler_type=spec.schedule,
        warmup_steps=min(spec.warmup_steps, planned.max_steps - 1),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        per_device_train_batch_size=planned.micro_batch_size,
        gradient_accumulation_steps=spec.batch_size // planned.micro_batch_size,
        gradient_checkpointing=planned.gradient_checkpointing,
        bf16=planned.dtype == "bfloat16" and planned.device == "cuda",
        use_cpu=planned.device == "cpu",
        seed=spec.seed,
        data_seed=spec.seed,
        eval_strategy="steps",
        eval_steps=planned.eval_every,
        save_strategy="steps",
        save_steps=planned.eval_every,
        save_total_limit=3,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, planned.eval_every // 5),
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    return AdapterTrainer(
        samples=samples,
        validation=validate(val_samples, planned.micro_batch_size),
        model=model,
        args=arguments,
        eval_dataset=indices(val_samples),
        processing_class=processor,
        peft_config=LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,
            lora_dropout=spec.dropout,
            target_modules=LANGUAGE_TARGETS,
            task_type="CAUSAL_LM",
            alora_invocation_tokens=list(card.invocation) or None,
        ),
        callbacks=[Reporter(job), EarlyStoppingCallback(spec.patience, early_stopping_threshold=1e-5), StopWhenSure()],
    )


def _best(trainer: AdapterTrainer) -> dict[str, Any]:
    """The step whose weights the trainer holds at the end, and its figures."""
    state = trainer.state
    if not state.best_model_checkpoint or not Path(state.best_model_checkpoint).is_dir():
        raise RecipeError("The best checkpoint has gone from the work folder: train again in a new one.")
    if not is_whole(Path(state.best_model_checkpoint)):
        raise RecipeError("The best checkpoint has changed since it was written: try again, from the one before.")
    step = state.best_global_step
    figures = next(log for log in state.log_history if log["step"] == step and "eval_score" in log)
    names = ("macro_f1", "exact", "confidence")
    return {"step": step} | {name: figures[f"eval_{name}"] for name in names if f"eval_{name}" in figures}


if __name__ == "__main__":
    from workers.recipes.cli import main

    raise SystemExit(main("train"))
