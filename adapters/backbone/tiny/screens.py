"""Screens of no application in particular, drawn for pretraining, with a record of every glyph on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from datasets_app.samples.screen import NUMBER, WORDS, Box, Color, Screen, font, on_lattice

LABELS = (
    "Order", "Total", "Phone", "Code", "Room", "Gate", "Seat", "Item", "Price", "Count", "Batch", "Track",
    "Crate", "Depot", "Index", "Level", "Meter", "Zone", "Page", "Account", "Ticket", "Invoice", "Number",
    "Weight", "Parcel", "Member", "Branch", "Client", "Delay", "Clamp", "Chain", "Plain", "Calm", "Mail",
    "Limit",
)  # fmt: skip
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Glyph:
    """One character with the middle of where it stands, in pixels; `marked` when on the selection colour."""

    character: str
    x: float
    y: float
    marked: bool


class RecordedScreen(Screen):
    """A screen that remembers its glyphs and its selected boxes."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.glyphs: list[Glyph] = []
        self.boxes: list[Box] = []

    def text(self, x: float, middle: float, text: str, size: int, fill: Color | None = None) -> float:
        face, left, middle = font(size), on_lattice(x), on_lattice(middle)
        for character in text:
            width = face.getlength(character)
            at = left + width / 2
            marked = any(box[0] <= at <= box[2] and box[1] <= middle <= box[3] for box in self.boxes)
            self.glyphs.append(Glyph(character, at, middle, marked))
            left += width
        return super().text(x, middle, text, size, fill)

    def selected(self, box: Box, radius: int = 2) -> None:
        self.boxes.append(box)
        super().selected(box, radius)


@dataclass(frozen=True)
class Facts:
    """What can be asked about a screen: numbers by label, in order, the one in boxes, and what is marked.

    Rows and columns count from 1.
    """

    kind: str
    screen: RecordedScreen
    numbers: dict[str, str] = field(default_factory=dict)
    marked: str | None = None
    boxed: str | None = None
    row: int | None = None
    column: int | None = None
    rows: int | None = None


def draw_facts(rng: Random) -> Facts:
    """One screen of a random kind."""
    (draw,) = rng.choices(
        (_grid, _form, _code, _list, _bars, _text, _tiles, _switches), weights=(10, 5, 8, 6, 1, 2, 1, 1)
    )
    screen = RecordedScreen(rng)
    facts: Facts = draw(screen)
    screen.pointer()
    return facts


def draw_page(rng: Random) -> RecordedScreen:
    """A page full of digits and letters, some of it marked: for learning to read, with nothing to be asked."""
    screen = RecordedScreen(rng)
    middle = screen.top + rng.randint(8, 14)
    while middle < screen.bottom - 8:
        size = rng.choice((11, 13, NUMBER, NUMBER, NUMBER, NUMBER, 20, 22))
        x = float(screen.left + rng.randint(2, 12))
        while x < screen.right - 14:
            length = rng.randint(1, 6)
            text = "".join(rng.choice("0123456789") for _ in range(length))
            if rng.random() < 0.25:
                text = rng.choice((rng.choice(WORDS), rng.choice(LABELS), _pseudo_word(rng)))
            width = font(size).getlength(text)
            marked = rng.random() < 0.25
            if marked:
                screen.selected((round(x) - 3, middle - 9, round(x + width) + 3, middle + 9))
            x = screen.text(x, middle, text, size, screen.theme.selection_ink if marked else None)
            x += rng.randint(4, 14)
        middle += rng.randint(18, 26)
    return screen


def _title(screen: RecordedScreen) -> int:
    words = screen.rng.sample(WORDS, screen.rng.randint(1, 2))
    if screen.rng.random() < 0.4:
        words[-1] = str(screen.rng.randint(1, 2999))
    return screen.title_bar(" ".join(words))


def _grid(screen: RecordedScreen) -> Facts:
    rng, theme = screen.rng, screen.theme
    top = _title(screen)
    columns, rows = rng.randint(5, 8), rng.randint(3, 7)
    cell = (screen.width - rng.randint(2, 16)) // columns
    left = screen.left + (screen.width - columns * cell) // 2 + rng.randint(-2, 2)
    if rng.random() < 0.6:
        for column in range(columns):
            x = left + column * cell
            screen.centered((x, top, x + cell - 1, top + 13), rng.choice(LETTERS), 11, theme.muted)
        top += rng.randint(13, 16)
    height = min((screen.bottom - top - 2) // rows, rng.randint(21, 30))
    cells = rows * columns
    skipped = rng.randint(0, columns - 1)
    start = rng.choice((1, 1, 1, rng.randint(0, 99 - cells)))
    numbers = [start + index - skipped for index in range(cells)]
    if rng.random() < 0.3:
        numbers = [rng.randint(1, 99) for _ in range(cells)]
    shown = range(skipped, max(skipped + 1, cells - rng.randint(0, columns)))
    marked, boxed = rng.choice(shown), rng.choice(shown)
    lines = rng.random() < 0.5
    for index in shown:
        row, column = divmod(index, columns)
        x, y = left + column * cell, top + row * height
        box = (x + 1, y + 1, x + cell - 2, y + height - 2)
        if lines:
            screen.draw.rectangle((x, y, x + cell - 1, y + height - 1), outline=theme.line)
        if index == marked:
            screen.selected(box)
        elif index == boxed:
            screen.draw.rectangle(box, outline=theme.accent)
        screen.centered(box, str(numbers[index]), NUMBER, theme.selection_ink if index == marked else None)
        if rng.random() < 0.1:
            screen.draw.line((x + 6, y + height - 3, x + cell - 7, y + height - 3), fill=theme.accent)
    row, column = divmod(marked, columns)
    return Facts("grid", screen, marked=str(numbers[marked]), row=row + 1, column=column + 1)


def _form(screen: RecordedScreen) -> Facts:
    rng, theme = screen.rng, screen.theme
    top = _title(screen) + rng.randint(2, 12)
    count = rng.randint(2, 4)
    pitch = min(rng.randint(32, 44), (screen.bottom - top) // count)
    x = screen.left + rng.randint(54, 70)
    width, height = rng.randint(72, 112), rng.randint(20, 27)
    labels = rng.sample(LABELS, count) if rng.random() < 0.6 else [_pseudo_word(rng) for _ in range(count)]
    numbers: dict[str, str] = {}
    chosen = rng.randrange(count) if rng.random() < 0.3 else None
    digits = rng.choice((5, 5, 5, rng.randint(3, 6)))
    for index, label in enumerate(labels):
        y = top + index * pitch
        middle = y + height // 2 + 1
        box = (x, y, min(x + width, screen.right - 5), y + height)
        screen.text(screen.left + rng.randint(4, 10), middle, label, NUMBER)
        if index == chosen:
            screen.selected(box)
        else:
            screen.draw.rounded_rectangle(box, 2, fill=theme.page, outline=theme.line)
        numbers[label] = str(rng.randint(10 ** (digits - 1), 10**digits - 1))
        ink = theme.selection_ink if index == chosen else None
        screen.text(x + rng.randint(4, 11), middle, numbers[label], NUMBER, ink)
    y = screen.bottom - 24
    if y > top + count * pitch - 8:
        screen.button((screen.right - 64, y, screen.right - 8, y + 18), rng.choice(("Done", "Back", "More")))
    marked = None if chosen is None else numbers[labels[chosen]]
    return Facts("form", screen, numbers=numbers, marked=marked, rows=count)


def _code(screen: RecordedScreen) -> Facts:
    """A number with each digit in a box of its own, among lines of text."""
    rng, theme = screen.rng, screen.theme
    top = _title(screen)
    pitch, side, size = rng.randint(28, 36), rng.randint(22, 27), rng.randint(18, 22)
    count = min(rng.choice((3, 4, 4, 4, 5, 6)), (screen.width - 4) // pitch)
    left = screen.left + rng.randint(1, screen.width - count * pitch)
    y = rng.randint(top + 2, screen.bottom - side - 4)
    digits = "".join(rng.choice("0123456789") for _ in range(count))
    for index, digit in enumerate(digits):
        x = left + index * pitch
        box = (x, y, x + side, y + side)
        screen.draw.rounded_rectangle(box, 3, fill=theme.page, outline=theme.line)
        screen.centered(box, digit, size)
    for middle in range(top + rng.randint(8, 30), screen.bottom - 10, rng.randint(20, 34)):
        if abs(middle - y - side / 2) > side / 2 + 8:
            screen.text(screen.left + rng.randint(5, 12), middle, rng.choice(LABELS), 12)
            entry = rng.choice((rng.choice(WORDS), str(rng.randint(100, 9999))))
            screen.text(screen.left + rng.randint(66, 92), middle, entry, 12, theme.muted)
    return Facts("code", screen, boxed=digits)


def _pseudo_word(rng: Random) -> str:
    """A word that means nothing, so that letters must be read rather than words known by their look."""
    syllables = rng.randint(2, 3)
    letters = "".join(rng.choice("bcdfghklmnprstvz") + rng.choice("aeiou") for _ in range(syllables))
    return (letters + rng.choice(("", "m", "n", "t", "y"))).capitalize()


def _list(screen: RecordedScreen) -> Facts:
    rng, theme = screen.rng, screen.theme
    top = _title(screen) + rng.randint(1, 10)
    rows = rng.randint(3, 7)
    pitch = min(rng.randint(22, 36), (screen.bottom - top - 3) // rows)
    chosen = rng.randint(1, rows)
    indent, size, bullet = rng.randint(7, 15), rng.randint(12, 14), rng.choice(("circle", "square", ""))
    for row, words in enumerate(_words(rng, rows), start=1):
        y = top + (row - 1) * pitch
        middle = y + pitch // 2
        ink = theme.ink
        if row == chosen:
            screen.selected((screen.left + 3, y + 1, screen.right - 3, y + pitch - 2))
            ink = theme.selection_ink
        x = screen.left + indent
        around = (x - 4, middle - 4, x + 4, middle + 4)
        if bullet == "circle":
            screen.draw.ellipse(around, fill=theme.panel, outline=ink)
        elif bullet == "square":
            screen.draw.rectangle(around, fill=theme.panel, outline=ink)
        screen.text(x + 10, middle, words, size, ink)
        if rng.random() < 0.4:
            screen.text(screen.right - 26, middle, str(rng.randint(1, 99)), 10, theme.muted)
    return Facts("list", screen, row=chosen, rows=rows)


def _words(rng: Random, count: int) -> Sequence[str]:
    return [" ".join(rng.sample(WORDS, rng.choice((1, 1, 2)))) for _ in range(count)]


def _bars(screen: RecordedScreen) -> Facts:
    rng, theme = screen.rng, screen.theme
    base, left = screen.bottom - rng.randint(10, 26), screen.left + rng.randint(10, 28)
    top = _title(screen) + 8
    count = rng.randint(3, 9)
    step = (screen.right - 10 - left) // count
    chosen = rng.randint(1, count)
    for bar in range(1, count + 1):
        x, height = left + (bar - 1) * step, rng.randint(10, base - top)
        box = (x + 2, base - height, x + step - 3, base)
        if bar == chosen:
            screen.selected(box, 0)
        else:
            screen.draw.rectangle(box, fill=theme.accent)
        screen.text(x + 2, base + 6, str(bar), 10, theme.muted)
    screen.draw.line((left, base, screen.right - 8, base), fill=theme.ink)
    return Facts("bars", screen, column=chosen)


def _text(screen: RecordedScreen) -> Facts:
    rng = screen.rng
    middle = _title(screen) + rng.randint(10, 18)
    size, pitch = rng.randint(10, 14), rng.randint(14, 20)
    while middle < screen.bottom - 8:
        words = [rng.choice((rng.choice(WORDS), _pseudo_word(rng), str(rng.randint(1, 99999)))) for _ in range(3)]
        screen.text(screen.left + rng.randint(6, 9), middle, " ".join(words[: rng.randint(1, 3)]), size)
        middle += pitch
    return Facts("text", screen)


def _tiles(screen: RecordedScreen) -> Facts:
    rng = screen.rng
    top = _title(screen) + 3
    columns = rng.randint(2, 5)
    side = (screen.width - 6) // columns
    for index in range(columns * ((screen.bottom - top - 2) // side)):
        x, y = screen.left + 4 + index % columns * side, top + index // columns * side
        color = (rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255))
        (screen.draw.ellipse if rng.random() < 0.5 else screen.draw.rectangle)(
            (x + 3, y + 3, x + side - 5, y + side - 5), fill=color
        )
    return Facts("tiles", screen)


def _switches(screen: RecordedScreen) -> Facts:
    rng, theme = screen.rng, screen.theme
    top = _title(screen) + rng.randint(2, 12)
    rows = rng.randint(3, 6)
    pitch = min(rng.randint(22, 36), (screen.bottom - top - 2) // rows)
    for row, words in enumerate(_words(rng, rows)):
        middle = top + row * pitch + pitch // 2
        screen.text(screen.left + 9, middle, words, 12)
        on, x = rng.random() < 0.5, screen.right - 36
        screen.draw.rounded_rectangle((x, middle - 6, x + 24, middle + 6), 6, fill=theme.accent if on else theme.line)
        knob = x + 18 if on else x + 6
        screen.draw.ellipse((knob - 4, middle - 4, knob + 4, middle + 4), fill=theme.panel)
    return Facts("switches", screen, rows=rows)
