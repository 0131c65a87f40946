"""`claim-window`: a form with several numbers; the answer copies the one beside "Claim"."""

from __future__ import annotations

from .example import Example, tool_call
from .screen import WORDS, Screen

SYSTEM = "You work in a claim window. Answer with one tool call."
PROMPTS = ("Copy the claim number.", "What is the claim number? Copy it.", "Take over the claim number.")


def draw(screen: Screen) -> Example:
    """Three fields in random order, each with a label and a number of five digits."""
    rng = screen.rng
    top = screen.title_bar(rng.choice(("Claim", "Claim window", "Claim file", f"Claim {rng.choice(WORDS)}")))
    labels = ["Claim", "Policy", "Amount"]
    rng.shuffle(labels)
    pitch = rng.randint(36, 42)
    top += rng.randint(4, 10)
    x = screen.left + rng.randint(58, 66)
    width, size = rng.randint(84, 108), rng.randint(17, 19)
    number = ""
    for index, label in enumerate(labels):
        y = top + index * pitch
        box = (x, y, min(x + width, screen.right - 6), y + 25)
        screen.text(screen.left + rng.randint(5, 9), y + 13, label, rng.randint(12, 14))
        screen.draw.rounded_rectangle(box, 2, fill=screen.theme.page, outline=screen.theme.line)
        value = str(rng.randint(10000, 99999))
        screen.text(x + rng.randint(5, 10), y + 13, value, size)
        if label == "Claim":
            number = value
    y = screen.bottom - 24
    if y > top + 3 * pitch - 8:
        screen.button((screen.right - 64, y, screen.right - 8, y + 18), rng.choice(("Save", "Close", "Next")))
    screen.pointer()
    return Example(screen.image, rng.choice(PROMPTS), tool_call("copy_claim", {"number": number}))
