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
from typing import TYPE_CHECKING, Any

from adapters.backbone.spec import BaseSpec, fingerprint
from datasets_app.errors import InputError
from workers.recipes.errors import RecipeError
from workers.recipes.files import write_atomically
from workers.recipes.job import Job
from workers.recipes.prepared import Prepared, load_split
from workers.recipes.training.checkpoints import is_whole, newest_whole
from workers.recipes.training.plan import Plan, plan
from workers.recipes.training.spec import Spec

if TYPE_CHECKING:
    from workers.recipes.training.trainer import AdapterTrainer


NOT_IN_LINEAGE = {"data", "base", "base_revision", "threads", "cache_mb"}
"""Fields that say where, not what: the card names data and base by their content."""


STEPS = ("train",)


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
    data = prepared.model_dump(mode="json", exclude=None if prepared.split else {"split"})
    identity = json.dumps({"spec": fields, "data": data})
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
    from workers.recipes.training.trainer import AdapterTrainer, FindBest, Reporter, StopWhenSure, indices
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
        callbacks=[
            FindBest(),
            Reporter(job),
            EarlyStoppingCallback(spec.patience, early_stopping_threshold=1e-5),
            StopWhenSure(),
        ],
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
