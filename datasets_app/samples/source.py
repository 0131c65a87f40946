"""Write a source dataset of drawn screens: `data.jsonl` and `images/`, LLaVA `conversations`."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from datasets_app.errors import InputError

from .example import Example
from .kinds import KINDS
from .screen import Screen

_MAX_REDRAWS = 100


class SampleError(InputError):
    """A request that cannot be drawn; the message is one sentence for people."""


def examples(kind: str, count: int, seed: int) -> Iterator[Example]:
    """`count` screens of `kind`, no two with equal pixels; the same arguments give the same screens.

    Raises SampleError for an unknown kind or a count below 1.
    """
    if kind not in KINDS:
        raise SampleError(f"Unknown kind {kind!r}; choose from {', '.join(KINDS)}.")
    if count < 1:
        raise SampleError(f"The count must be at least 1, not {count}.")
    return _distinct(kind, count, seed)


def _distinct(kind: str, count: int, seed: int) -> Iterator[Example]:
    draw = KINDS[kind].draw
    seen: set[bytes] = set()
    for index in range(count):
        # A string seed goes through SHA-512, so it does not depend on PYTHONHASHSEED.
        rng = Random(f"{kind}/{seed}/{index}")
        for _ in range(_MAX_REDRAWS):
            example = draw(Screen(rng))
            digest = hashlib.sha256(example.image.tobytes()).digest()
            if digest not in seen:
                break
        else:
            raise SampleError(f"Kind {kind!r} cannot draw {count} different screens.")
        seen.add(digest)
        yield example


def row(kind: str, index: int, example: Example) -> dict[str, object]:
    """The JSON object of one example; every screen is a group of its own, keyed by its pixels."""
    name = f"{kind}_{index:05d}"
    group = hashlib.sha256(example.image.tobytes()).hexdigest()[:16]
    return {
        "id": name,
        "image": f"images/{name}.png",
        "conversations": [
            {"from": "system", "value": KINDS[kind].system},
            {"from": "human", "value": f"<image>\n{example.prompt}"},
            {"from": "gpt", "value": example.answer},
        ],
        "metadata": {"group": group},
    }


def write_source(
    kind: str, out_dir: Path, count: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write `count` screens of `kind` to `out_dir` and return it; the same arguments write the same bytes.

    Everything is written to a sibling folder first and renamed, so `out_dir` is whole or absent.
    `progress` is called with (done, count) after every screen.
    Raises SampleError for an unknown kind, a count below 1, or an `out_dir` that already holds something.
    """
    drawn = examples(kind, count, seed)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise SampleError(f"{out_dir} already exists and is not an empty folder.")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    try:
        staging.chmod(0o755)
        (staging / "images").mkdir()
        with (staging / "data.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
            for index, example in enumerate(drawn):
                example.image.save(staging / "images" / f"{kind}_{index:05d}.png")
                lines.write(json.dumps(row(kind, index, example)) + "\n")
                if progress is not None:
                    progress(index + 1, count)
        staging.replace(out_dir)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return out_dir
