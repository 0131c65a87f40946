"""What a fresh base with one adapter answers, in plain PEFT: the truth that every path of the engine must give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from adapters.card import AdapterCard
from inference.engines.images import decode
from inference.engines.in_process import generate_batch, route_scores
from inference.engines.types import Request
from inference.routing.scoring import best
from tests.inference.engines.small import make_model


class Truth:
    """Fresh bases, one for each adapter folder that is asked for."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._models: dict[Path, Any] = {}
        self._said: dict[tuple[Path, Request], str] = {}

    def route(self, router: Path, request: Request) -> str:
        """The label that the router names."""
        key = (router, request)
        if key not in self._said:
            model, card = self._model(router), AdapterCard.read(router)
            scores = route_scores(model, self._processor, card, [decode(request.image)], [request.prompt])
            self._said[key] = best(scores[0])
        return self._said[key]

    def answer(self, expert: Path, request: Request) -> str:
        """The expert's answer."""
        key = (expert, request)
        if key not in self._said:
            model, card = self._model(expert), AdapterCard.read(expert)
            images = [decode(request.image)]
            texts = generate_batch(model, self._processor, card, images, [request.prompt], request.max_tokens)
            self._said[key] = texts[0]
        return self._said[key]

    def _model(self, folder: Path) -> Any:
        if folder not in self._models:
            self._models[folder] = PeftModel.from_pretrained(make_model(self._processor), folder).eval()
        return self._models[folder]
