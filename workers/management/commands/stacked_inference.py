"""`stacked_inference --routing-run Y --routing-dataset X --max-samples N`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from workers.management.base import RunCommand
from workers.models import Run


class Command(RunCommand):
    """Route and answer held-out samples."""

    help = "Route held-out samples with a run's router, answer them with the experts it names, and show each."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which router, which samples."""
        super().add_arguments(parser)
        parser.add_argument("--routing-run", required=True, help="train run whose router routes")
        parser.add_argument("--routing-dataset", required=True, help="preprocessed routing dataset")
        parser.add_argument("--max-samples", type=int, default=20, help="default: %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        """Evaluate the stack, then show its report."""
        params = {
            "run": options["routing_run"],
            "dataset": options["routing_dataset"],
            "stack": True,
            "max_samples": options["max_samples"],
        }
        run = self.launch(Run.Kind.EVALUATE, params, None, options)
        if run is not None and run.evaluation is not None:
            self._show(run.evaluation.report)

    def _show(self, report: dict[str, Any]) -> None:
        width = max(len(str(sample["label"])) for sample in report["samples"])
        for sample in report["samples"]:
            self.say(line(sample, width))
        self.say("routed right   " + share(report["routing"]["accuracy"]))
        self.say("answered right " + share(report["end_to_end"]["exact"]))


def line(sample: dict[str, Any], width: int) -> str:
    """One sample: the true label, what it was routed to and how surely, and whether the answer was exact."""
    sure = f"{sample['probability']:7.1%}" if "probability" in sample else ""
    answer = sample.get("end_to_end")
    verdict = "no answer" if answer is None else "exact" if answer["exact"] else "not exact"
    mark = "→" if sample["correct"] else "✗"
    return f"{sample['label']:{width}} {mark} {sample['routed']:{width}} {sure}  {verdict}"


def share(figure: dict[str, Any]) -> str:
    """A share of samples with its interval."""
    interval = f"95% interval {figure['ci_low']:.1%} to {figure['ci_high']:.1%}"
    return f"{figure['value']:.1%} of {figure['n']} ({interval})"
