"""`provider-select`: a list of providers with one highlighted; the answer names its row."""

from __future__ import annotations

from .example import Example, tool_call
from .screen import WORDS, Screen

SYSTEM = "You select a provider from a list. Answer with one tool call."
PROMPTS = ("Choose the highlighted provider.", "Which row holds the highlighted provider?", "Select that provider.")


def draw(screen: Screen) -> Example:
    """Four to six rows, each a radio button and a name; rows count from 1."""
    rng = screen.rng
    top = screen.title_bar(rng.choice(("Provider", "Select provider", "Providers near you"))) + rng.randint(1, 9)
    rows = rng.randint(4, 6)
    pitch = min(rng.randint(23, 33), (screen.bottom - top - 3) // rows)
    chosen = rng.randint(1, rows)
    indent, size = rng.randint(8, 14), rng.randint(12, 14)
    prefix = rng.choice(("Dr. ", "Clinic ", ""))
    for row, name in enumerate(rng.sample(WORDS, rows), start=1):
        y = top + (row - 1) * pitch
        middle = y + pitch // 2
        ink = screen.theme.ink
        if row == chosen:
            screen.selected((screen.left + 3, y + 1, screen.right - 3, y + pitch - 2))
            ink = screen.theme.selection_ink
        x = screen.left + indent
        screen.draw.ellipse((x - 4, middle - 4, x + 4, middle + 4), fill=screen.theme.panel, outline=ink)
        if row == chosen:
            screen.draw.ellipse((x - 2, middle - 2, x + 2, middle + 2), fill=ink)
        screen.text(x + 10, middle, prefix + name, size, ink)
        if rng.random() < 0.4:
            screen.text(screen.right - 26, middle, f"{rng.randint(1, 9)} km", 10, screen.theme.muted)
    screen.pointer()
    return Example(screen.image, rng.choice(PROMPTS), tool_call("choose_provider", {"row": chosen}))
