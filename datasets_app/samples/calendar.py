"""`calendar`: a month with one marked day; the answer clicks its place, row by column."""

from __future__ import annotations

from .example import Example, tool_call
from .screen import NUMBER, Screen

SYSTEM = "You operate a calendar. Answer with one tool call."
PROMPTS = ("Click the marked day.", "Which day is marked? Click it.", "Open the marked day.")

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def draw(screen: Screen) -> Example:
    """A month of 28 to 31 days in five or six weeks."""
    rng = screen.rng
    top = screen.title_bar(f"{rng.choice(_MONTHS)} {rng.randint(2019, 2039)}")
    days, first = rng.randint(28, 31), rng.randint(0, 6)
    weeks = (first + days + 6) // 7
    cell = (screen.width - rng.randint(4, 14)) // 7
    left = screen.left + (screen.width - 7 * cell) // 2 + rng.randint(-2, 2)
    for column, letter in enumerate(rng.choice(("MTWTFSS", "SMTWTFS"))):
        x = left + column * cell
        screen.centered((x, top, x + cell - 1, top + 13), letter, 11, screen.theme.muted)
    top += 14
    height = min((screen.bottom - top - 2) // weeks, rng.randint(22, 27))
    marked, today = rng.randint(1, days), rng.randint(1, days)
    lines = rng.random() < 0.5
    for day in range(1, days + 1):
        row, column = divmod(first + day - 1, 7)
        x, y = left + column * cell, top + row * height
        box = (x + 1, y + 1, x + cell - 2, y + height - 2)
        if lines:
            screen.draw.rectangle((x, y, x + cell - 1, y + height - 1), outline=screen.theme.line)
        if day == marked:
            screen.selected(box)
        elif day == today:
            screen.draw.rectangle(box, outline=screen.theme.accent)
        screen.centered(box, str(day), NUMBER, screen.theme.selection_ink if day == marked else None)
        if rng.random() < 0.1:
            screen.draw.line((x + 6, y + height - 3, x + cell - 7, y + height - 3), fill=screen.theme.accent)
    row, column = divmod(first + marked - 1, 7)
    screen.pointer()
    return Example(screen.image, rng.choice(PROMPTS), tool_call("click_day", {"row": row + 1, "column": column + 1}))
