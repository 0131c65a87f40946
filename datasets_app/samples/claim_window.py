"""`claim-window`: a form with a claim number, a digit in each box; the answer copies it."""

from __future__ import annotations

from .example import Example, tool_call
from .screen import WORDS, Screen

SYSTEM = "You work in a claim window. Answer with one tool call."
PROMPTS = ("Copy the claim number.", "What is the claim number? Copy it.", "Take over the claim number.")

DIGITS = 4
PITCH = 32
"""Pixels from box to box, and from line to line."""


def draw(screen: Screen) -> Example:
    """The claim number on one of four lines, smaller entries on others."""
    rng = screen.rng
    screen.title_bar(rng.choice(("Claim", "Claim window", "Claim file", f"Claim {rng.choice(WORDS)}")))
    lines = rng.sample(range(1, 5), rng.randint(2, 4))
    number = "".join(str(rng.randint(0, 9)) for _ in range(DIGITS))
    digit_boxes(screen, number, lines[0], rng.randint(0, 6 - DIGITS))
    for line in lines[1:]:
        middle = line * PITCH + rng.randint(12, 20)
        screen.text(screen.left + rng.randint(6, 12), middle, rng.choice(("Policy", "Amount", "Date", "Name")), 12)
        entry = rng.choice((rng.choice(WORDS), f"{rng.randint(100, 9999)}"))
        screen.text(screen.left + rng.randint(70, 90), middle, entry, 12, screen.theme.muted)
    if rng.random() < 0.6:
        top = screen.bottom - 23
        screen.button((screen.right - 64, top, screen.right - 8, top + 18), rng.choice(("Save", "Close", "Next")))
    screen.pointer()
    return Example(screen.image, rng.choice(PROMPTS), tool_call("copy_claim", {"code": number}))


def digit_boxes(screen: Screen, number: str, line: int, column: int) -> None:
    """Write each digit of `number` into a box of its own, from `column` on."""
    rng = screen.rng
    left, top = rng.randint(1, 5), line * PITCH + rng.randint(1, 5)
    size = rng.randint(19, 22)
    for index, digit in enumerate(number):
        x = left + (column + index) * PITCH
        box = (x, top, x + 25, top + 25)
        screen.draw.rounded_rectangle(box, 3, fill=screen.theme.page, outline=screen.theme.line)
        screen.centered(box, digit, size)
