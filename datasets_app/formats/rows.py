"""The rows that formats yield."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SourceRow:
    """One training example of an expert.

    `prompt` is the user's words without the `<image>` tag, `answer` what the expert should say, `group` a key
    whose rows belong together (a session, a customer) and must not be torn apart by a split. `image` exists,
    is a readable PNG, JPEG or WEBP and lies inside the dataset; `file` and `line` say where the row was read.
    """

    id: str
    image: Path
    system: str | None
    prompt: str
    answer: str
    group: str | None
    file: str
    line: int


@dataclass(frozen=True)
class RoutingRow:
    """One routing sample: screenshot and question, and the label that answers it.

    `human` is the router's whole human turn with its `<image>` tag, `index` the label's number. Samples drawn
    from a source also carry where from (`source_id`), the user's words (`prompt`) and the expert's `answer`,
    so that a whole stack can be evaluated on them.
    """

    id: str
    image: Path
    system: str | None
    human: str
    label: str
    index: int
    source_id: str | None = None
    prompt: str | None = None
    answer: str | None = None
    file: str = ""
    line: int = 0
