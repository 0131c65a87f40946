"""Drawn screens and generic questions about them. They name no adapter and no expert's tool."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from random import Random

from datasets_app.samples import calendar, other, provider_select
from datasets_app.samples.claim_window import digit_boxes
from datasets_app.samples.screen import SIZE, WORDS, Box, Color, Screen, font

SYSTEMS = (None, "You are a helpful assistant.", "You look at a screen. Answer briefly.", "Answer with one tool call.")
KINDS = ("grid", "fields", "rows", "something else")
TOPICS = ("place in a grid", "code in a form", "row of a list", "kind of screen", "name to say")
PLAIN_TEXT = (
    "What Which Name Tell this that here is it the a of for kind sort type screen page window view picture shown seen "
    "open fits belongs should does look at answer with one word short job who takes care need about give me app please"
)
"""What questions about the kind of screen are made of, in any order: whatever names nothing to read asks for it."""
LABELS = ("Policy", "Amount", "Order", "Total", "Phone", "Number", "Account", "Ticket", "Invoice")
SLOT_WIDTH, SLOT_HEIGHT = 8, 16
SLOTS = (SIZE // SLOT_HEIGHT, SIZE // SLOT_WIDTH)
"""Rows and columns of the grid on which the vision tower learns to read: at most one digit's middle lies in a slot."""


class Recorder(Screen):
    """A screen that keeps what stands where, for the auxiliary heads."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.digits = [[0] * SLOTS[1] for _ in range(SLOTS[0])]  # 0: none, 1 to 10: the digit plus one
        self.marked = [[0] * SLOTS[1] for _ in range(SLOTS[0])]

    def text(self, x: float, middle: float, text: str, size: int, fill: Color | None = None) -> float:
        for index, character in enumerate(text):
            if character.isdigit() and size >= 19:
                start, end = font(size).getlength(text[:index]), font(size).getlength(text[: index + 1])
                row, column = int(middle) // SLOT_HEIGHT, int(x + (start + end) / 2) // SLOT_WIDTH
                if row < SLOTS[0] and column < SLOTS[1]:
                    self.digits[row][column] = int(character) + 1
        return super().text(x, middle, text, size, fill)

    def selected(self, box: Box, radius: int = 2) -> None:
        for row in range(SLOTS[0]):
            for column in range(SLOTS[1]):
                x, y = (column + 0.5) * SLOT_WIDTH, (row + 0.5) * SLOT_HEIGHT
                if box[0] <= x <= box[2] and box[1] <= y <= box[3]:
                    self.marked[row][column] = 1
        super().selected(box, radius)


@dataclass(frozen=True)
class Scene:
    """A drawn screen and what can be asked about it; `kind` indexes KINDS, `row` and `column` are 0 if unmarked."""

    screen: Recorder
    kind: int
    row: int = 0
    column: int = 0
    code: str = ""


def draw(rng: Random, weights: tuple[int, ...]) -> Scene:
    """A random screen; `weights` of grids, forms, lists and other screens, in the order of KINDS."""
    return rng.choices((_grid, _form, _list, _other), weights)[0](rng)


@dataclass(frozen=True)
class Turn:
    """A question with its answer; `topic` is one of TOPICS."""

    topic: str
    system: str | None
    question: str
    answer: str


def ask(scene: Scene, rng: Random) -> Turn:
    """A question about the screen, and its answer."""
    system = rng.choice(SYSTEMS) if rng.random() < 0.6 else _plain_words(rng, 12)
    if rng.random() < 0.12:
        name = _name(rng)
        return Turn("name to say", system, f"Say {name}.", name)
    wanted: dict[str, int | str] = {}
    if scene.code:
        wanted["code"] = scene.code
    if scene.row and (not scene.column or rng.random() < 0.7):
        wanted["row"] = scene.row
    if scene.column and ("row" not in wanted or rng.random() < 0.5):
        wanted["column"] = scene.column
    if not wanted or rng.random() < 0.2:
        return Turn("kind of screen", system, _plain_words(rng, 9), KINDS[scene.kind])
    topic, what = TOPICS[scene.kind], " and ".join(wanted)
    if rng.random() < 0.5:
        question = rng.choice((f"Which {what}?", f"Say the {what}.", f"Read the {what}.", f"What is the {what}?"))
        return Turn(topic, system, question, " ".join(str(value) for value in wanted.values()))
    name = _name(rng) if rng.random() < 0.6 else "report"
    call = json.dumps({"name": name, "arguments": wanted})
    question = rng.choice((f"Call {name}: the {what}.", f"Call {name} with the {what}."))
    return Turn(topic, system, question, f"<tool_call>\n{call}\n</tool_call>")


def _plain_words(rng: Random, most: int) -> str:
    words = rng.choices(PLAIN_TEXT.split(), k=rng.randint(3, most))
    return " ".join(words) + rng.choice("?.")


def _name(rng: Random) -> str:
    """A name that means nothing: every piece of text has to be sayable, or no adapter could make the base say it."""
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 7))) for _ in range(rng.randint(1, 2))]
    return rng.choice("-_").join(words)


def corpus(count: int, rng: Random) -> list[str]:
    """The text that the tokenizer learns from: `count` questions with their answers, and the system turns."""
    turns = [ask(draw(rng, (1, 1, 1, 1)), rng) for _ in range(count)]
    return [text for turn in turns for text in (turn.system or "", turn.question, turn.answer)]


def _arguments(answer: str) -> list[int]:
    """The arguments of a drawn example's call."""
    return [int(value) for value in json.loads(answer.split("\n")[1])["arguments"].values()]


def _grid(rng: Random) -> Scene:
    screen = Recorder(rng)
    row, column = _arguments(calendar.draw(screen).answer)
    return Scene(screen, 0, row, column)


def _list(rng: Random) -> Scene:
    screen = Recorder(rng)
    (row,) = _arguments(provider_select.draw(screen).answer)
    return Scene(screen, 2, row)


def _other(rng: Random) -> Scene:
    screen = Recorder(rng)
    other.draw(screen)
    return Scene(screen, 3)


def _form(rng: Random) -> Scene:
    """A form with a code, a digit in each box."""
    screen = Recorder(rng)
    screen.title_bar(" ".join(rng.sample(WORDS, 2)))
    lines = rng.sample(range(1, 5), rng.randint(2, 4))
    count = rng.choice((2, 3, 4, 4, 4))
    code = "".join(str(rng.randint(0, 9)) for _ in range(count))
    digit_boxes(screen, code, lines[0], rng.randint(0, 6 - count))
    for line in lines[1:]:
        middle = line * 32 + rng.randint(12, 20)
        screen.text(screen.left + rng.randint(6, 12), middle, rng.choice(LABELS), 12)
        entry = rng.choice((rng.choice(WORDS), f"{rng.randint(100, 9999)}"))
        screen.text(screen.left + rng.randint(70, 90), middle, entry, 12, screen.theme.muted)
    if rng.random() < 0.6:
        top = screen.bottom - 23
        screen.button((screen.right - 64, top, screen.right - 8, top + 18), rng.choice(("Save", "Close", "Next")))
    screen.pointer()
    return Scene(screen, 1, code=code)
