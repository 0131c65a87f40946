"""How many samples of a class are held out to evaluate on: what the promotion rule needs, not a share of the samples.

Of a source that has so many different screens 120 are held out: without a loss among them they show that a router is at
most 2.5 points worse. A smaller source spares two fifths of its screens, a large one holds out a tenth.
"""

from __future__ import annotations

HELD_OUT = 120
MOST = 0.4
LEAST = 0.1
VAL = 1 / 15
SAMPLES = round(HELD_OUT / MOST)
"""Samples of a class, all sides together, where nothing else is asked for: the fewest that spare `HELD_OUT`."""
FEWEST = 3
"""Different screens that a class must have: one for each side."""
MOST_SAMPLES = 1_000_000
DEFAULT_WORDS = f"{SAMPLES}, of which {HELD_OUT} are held out, or what a class has"


def held_out(screens: int) -> int:
    """How many of so many different screens, or samples, are held out to evaluate on."""
    return max(1, round(LEAST * screens), min(HELD_OUT, int(MOST * screens)))


def counts(samples: int) -> dict[str, int]:
    """So many samples of a class, three at least, shared out to train, validate and evaluate on."""
    sides = {"val": max(1, round(VAL * samples)), "eval": held_out(samples)}
    return {"train": samples - sum(sides.values()), **sides}
