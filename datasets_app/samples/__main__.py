"""Write source datasets: `python -m datasets_app.samples --out DIR [--kinds calendar other] --count 200 --seed 0`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .kinds import KINDS
from .source import SampleError, write_source


def main(argv: Sequence[str] | None = None) -> int:
    """Write one folder per kind below --out. Returns 0, or 2 after one sentence on bad input."""
    parser = argparse.ArgumentParser(prog="python -m datasets_app.samples", description="Write drawn source datasets.")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives one folder per kind")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--count", type=int, default=200, help="screens per kind (default 200)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    try:
        for kind in options.kinds:
            with tqdm(total=options.count, desc=kind, unit="screen", file=sys.stderr) as bar:
                write_source(kind, options.out / kind, options.count, options.seed, partial(_advance, bar))
    except (SampleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _advance(bar: tqdm[Any], done: int, count: int) -> None:
    bar.update(done - bar.n)


if __name__ == "__main__":
    sys.exit(main())
