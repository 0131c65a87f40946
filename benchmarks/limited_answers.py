"""How far limited decoding, as vLLM does it, is from the likelihood of whole labels, by which we evaluate routers.

`python -m benchmarks.limited_answers ROUTER DATASET`: a trained router's folder, and a routing dataset whose `eval`
split is asked. Whole labels are scored as the engine does. Limited decoding is computed from the same logits: at each
token, only the tokens with which some label goes on count, and are made to sum to 1. (vLLM also allows other ways to
cut a label into tokens, which a trained router hardly takes.)
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

from peft import PeftModel
from tqdm import tqdm

from adapters.backbone.loading import load_model, load_processor
from adapters.backbone.spec import BaseSpec
from adapters.card import AdapterCard
from datasets_app.formats.conversation import user_words
from datasets_app.formats.pictures import decode
from datasets_app.formats.routing import read
from inference.engines.in_process.passes import name_log_likelihoods
from inference.engines.in_process.runner import Runner
from inference.routing.scoring import best, probabilities
from inference.routing.trie import NameTrie

Step = tuple[int, int]  # row and token, as in NameTrie.paths


def limited(labels: tuple[str, ...], trie: NameTrie, logs: Mapping[Step, float]) -> dict[str, float]:
    """The labels' probabilities where each token is normalised over what the labels allow there."""
    allowed: dict[int, float] = {}
    for (row, _), log in logs.items():
        allowed[row] = allowed.get(row, 0.0) + math.exp(log)
    return {
        label: math.prod(math.exp(logs[step]) / allowed[step[0]] for step in path)
        for label, path in zip(labels, trie.paths, strict=True)
    }


def main() -> None:
    """Print how often the two name another label, and how far apart they are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limited_answers", description=__doc__)
    parser.add_argument("router", type=Path)
    parser.add_argument("dataset", type=Path)
    defaults = BaseSpec()
    parser.add_argument("--base", default=defaults.path)
    parser.add_argument("--revision")
    parser.add_argument("--dtype", default=defaults.dtype)
    options = parser.parse_args()
    spec = BaseSpec(options.base, options.revision, options.dtype)
    card = AdapterCard.read(options.router)
    runner = Runner(PeftModel.from_pretrained(load_model(spec), options.router).eval(), load_processor(spec))
    trie = runner.trie(card.labels)
    steps = sorted({step for path in trie.paths for step in path})
    single = NameTrie(trie.ids, trie.parents, trie.depths, tuple((step,) for step in steps))
    rows = read(options.dataset).splits["eval"]
    others, distance, off = 0, 0.0, 0.0
    with runner.serving():
        for row in tqdm(rows):
            views = runner.look([decode(row.image.read_bytes())], card)
            batch = runner.collate([runner.ids(card, row.prompt or user_words(row.human), views[0])], views)
            scores = name_log_likelihoods(runner.model, batch, [single])[0].tolist()
            logs = dict(zip(steps, scores, strict=True))
            whole = {
                label: sum(logs[step] for step in path) for label, path in zip(card.labels, trie.paths, strict=True)
            }
            ours, theirs = probabilities(whole), limited(card.labels, trie, logs)
            others += best(ours) != best(theirs)
            distance = max(distance, *(abs(ours[label] - theirs[label]) for label in card.labels))
            off += 1 - math.fsum(map(math.exp, whole.values()))
    print(f"{len(rows)} screens, {len(card.labels)} labels: {others} decided otherwise")
    print(f"largest difference of a probability {distance:.4f}; mean probability of no label {off / len(rows):.4f}")


if __name__ == "__main__":
    main()
