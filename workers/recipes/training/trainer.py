"""TRL's trainer with this platform's samples and validation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from workers.recipes.errors import RecipeError
from workers.recipes.job import Job
from workers.recipes.training.checkpoints import seal
from workers.recipes.training.samples import Samples
from workers.recipes.training.validation import Validation

SURE = 0.99
"""Mean confidence in the right answers from which more training could only show on other samples."""


def indices(samples: Samples) -> Dataset:
    """A dataset that only numbers the samples: the collator looks them up."""
    return Dataset.from_dict({"index": list(range(len(samples)))})


class AdapterTrainer(SFTTrainer):
    """An `SFTTrainer` that takes its batches from `Samples` and evaluates with a `Validation`.

    `card` is that of the adapter in training, without lineage.
    """

    def __init__(self, *, samples: Samples, validation: Validation, **options: Any) -> None:
        self._validation = validation
        self._runner = samples.runner
        self.card = samples.card

        def collate(rows: list[dict[str, int]]) -> dict[str, Any]:
            return samples.batch([row["index"] for row in rows])

        super().__init__(data_collator=collate, train_dataset=indices(samples), **options)
        self.remove_callback(PrinterCallback)
        self.add_callback(SpareVisionTower(self._runner.model.model.visual))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Compute the validation's figures instead of the loss, and tell the callbacks."""
        self._runner.model.eval()
        metrics = {f"eval_{name}": value for name, value in self._validation().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class SpareVisionTower(TrainerCallback):
    """Takes the frozen vision tower out of gradient checkpointing: it runs outside of the steps, so nothing of it is
    computed anew. PEFT would wait for its backward pass, and refuse an activated adapter's second step.
    """

    def __init__(self, tower: Any) -> None:
        self._tower = tower

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The trainer has just switched it on everywhere."""
        for block in self._tower.modules():
            block.gradient_checkpointing = False


class FindBest(TrainerCallback):
    """Finds the best checkpoint beside the one that is resumed from: the folder may have been moved since."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The state has just been read from that checkpoint; the trainer drops a path that has gone."""
        best = Path(str(args.output_dir)) / f"checkpoint-{state.best_global_step}"
        if best.is_dir():
            state.best_model_checkpoint = str(best)


class Reporter(TrainerCallback):
    """Reports progress, seals checkpoints, and stops a run whose loss is no number."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Pass the figures on."""
        logs = logs or {}
        for name in ("loss", "grad_norm"):
            if name in logs and not math.isfinite(logs[name]):
                raise RecipeError(
                    f"Training diverged: {name} is {logs[name]} at step {state.global_step}; lower learning_rate."
                )
        names = ("loss", "learning_rate", "eval_macro_f1", "eval_exact", "eval_confidence")
        figures = {name.removeprefix("eval_"): float(logs[name]) for name in names if name in logs}
        if figures:
            self._job.progress("train", state.global_step, state.max_steps, **figures)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Validate the last step, too, wherever it falls."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal the checkpoint that was just written, and say so."""
        seal(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
        self._job.checkpointed()


class StopWhenSure(TrainerCallback):
    """Ends training where every validation sample is right and the model hardly doubts any: nothing is left to gain."""

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at the figures of the validation that has just ended."""
        metrics = metrics or {}
        share = metrics.get("eval_macro_f1", metrics.get("eval_exact", 0.0))
        if share == 1 and metrics["eval_confidence"] > SURE:
            control.should_training_stop = True
