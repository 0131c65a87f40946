"""Asking the engine, and what came of each sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from inference.engines.in_process import InProcessEngine
from inference.engines.types import AdapterRef, Request, StackedResult, StackSpec
from inference.routing.scoring import best
from inference.routing.tool_call import parse_tool_call
from workers.recipes.evaluation.samples import Questions, Sample


@dataclass(frozen=True)
class Answer:
    """An expert's answer: `valid` if it holds one well-formed tool call, `exact` if it is the right answer."""

    text: str
    valid: bool
    exact: bool


@dataclass(frozen=True)
class Outcome:
    """What came of one sample.

    `routed` is the label that the router answered and `probabilities` its view of all labels. `end_to_end` is what a
    user of the stack gets (None where the dataset does not know the right answer); `expert` what the right expert
    answers, whatever the router said.
    """

    sample: Sample
    routed: str | None = None
    probabilities: dict[str, float] | None = None
    end_to_end: Answer | None = None
    expert: Answer | None = None


class Examiner:
    """Puts the questions to one subject in one engine."""

    def __init__(self, engine: InProcessEngine, questions: Questions, batch_size: int, max_tokens: int) -> None:
        self._engine = engine
        self._questions = questions
        self._batch_size = batch_size
        self._max_tokens = max_tokens

    def router(self, router: AdapterRef) -> Iterator[Outcome]:
        """Ask a router alone."""
        for samples in self._batches():
            rows = self._engine.route_scores_many(router, self._requests(samples))
            for sample, scores in zip(samples, rows, strict=True):
                yield Outcome(sample, best(scores), scores)

    def expert(self, expert: AdapterRef) -> Iterator[Outcome]:
        """Ask an expert alone."""
        for samples in self._batches():
            texts = self._engine.generate_many(expert, self._requests(samples))
            for sample, text in zip(samples, texts, strict=True):
                yield Outcome(sample, expert=_judge(text, sample))

    def stack(self, stack: StackSpec) -> Iterator[Outcome]:
        """Ask a deployed stack, and the right expert, too, where the router named another."""
        experts = {expert.name: expert for expert in stack.experts}
        for samples in self._batches():
            results = self._engine.infer_many(self._requests(samples, stack.digest))
            outcomes = [self._end_to_end(*pair) for pair in zip(samples, results, strict=True)]
            yield from self._with_right_expert(outcomes, experts)

    def latency(self, ask: Callable[[Request], object], stack: str, count: int) -> list[float]:
        """Milliseconds of each of the first `count` samples, asked one at a time after one for warming up."""
        milliseconds = []
        samples = self._questions.samples[:count]
        for request in self._requests(samples[:1] + samples, stack):
            started = time.perf_counter()
            ask(request)
            milliseconds.append((time.perf_counter() - started) * 1000)
        return milliseconds[1:]

    def _end_to_end(self, sample: Sample, result: StackedResult) -> Outcome:
        decision = result.decision
        if sample.label == self._questions.none_label:
            silent = decision.adapter is None
            answer: Answer | None = Answer(result.text, silent, silent)
        else:
            answer = _judge(result.text, sample) if sample.answer is not None else None
        return Outcome(sample, decision.label, decision.probabilities, answer)

    def _with_right_expert(self, outcomes: list[Outcome], experts: dict[str, AdapterRef]) -> list[Outcome]:
        asked: dict[str, list[int]] = {}
        for index, outcome in enumerate(outcomes):
            label = outcome.sample.label
            if outcome.end_to_end is not None and label in experts:
                if outcome.routed == label:
                    outcomes[index] = replace(outcome, expert=outcome.end_to_end)
                else:
                    asked.setdefault(label, []).append(index)
        for label, indices in asked.items():
            requests = self._requests([outcomes[index].sample for index in indices])
            for index, text in zip(indices, self._engine.generate_many(experts[label], requests), strict=True):
                outcomes[index] = replace(outcomes[index], expert=_judge(text, outcomes[index].sample))
        return outcomes

    def _batches(self) -> Iterator[list[Sample]]:
        samples = self._questions.samples
        for start in range(0, len(samples), self._batch_size):
            yield samples[start : start + self._batch_size]

    def _requests(self, samples: Sequence[Sample], stack: str = "") -> list[Request]:
        return [Request(stack, sample.image(), sample.words, self._max_tokens) for sample in samples]


def _judge(text: str, sample: Sample) -> Answer:
    exact = sample.answer is not None and text.strip() == sample.answer.strip()
    return Answer(text, parse_tool_call(text) is not None, exact)
