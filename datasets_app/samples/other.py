"""`other`: screens that belong to no expert, drawn with the same themes and widgets."""

from __future__ import annotations

from .example import Example
from .screen import WORDS, Screen

SYSTEM = "You look at a screen. Answer in one sentence."
PROMPTS = ("What should be done here?", "Act on this screen.", "Which expert fits this screen?")
ANSWER = "No expert for this screen."


def draw(screen: Screen) -> Example:
    """One of the screens below."""
    rng = screen.rng
    rng.choice((_login, _settings, _mail, _chart, _terminal, _keypad, _player, _gallery))(screen)
    screen.pointer()
    return Example(screen.image, rng.choice(PROMPTS), ANSWER)


def _login(screen: Screen) -> None:
    rng, theme = screen.rng, screen.theme
    top = screen.title_bar(rng.choice(("Sign in", "Welcome", "Log in"))) + rng.randint(14, 30)
    left, right = screen.left + rng.randint(18, 34), screen.right - rng.randint(18, 34)
    for label in ("User", "Password"):
        screen.text(left, top, label, 11, theme.muted)
        screen.draw.rectangle((left, top + 8, right, top + 28), fill=theme.page, outline=theme.line)
        value = rng.choice(WORDS).lower() if label == "User" else "*" * rng.randint(5, 10)
        screen.text(left + 5, top + 19, value, 13)
        top += 46
    screen.button((left, top, right, top + 20), "Enter")


def _settings(screen: Screen) -> None:
    rng, theme = screen.rng, screen.theme
    top = screen.title_bar("Settings") + rng.randint(4, 10)
    rows = rng.randint(4, 6)
    pitch = min(rng.randint(24, 32), (screen.bottom - top - 2) // rows)
    for name in rng.sample(("Sound", "Light", "Network", "Privacy", "Power", "Display", "Updates", "Keys"), rows):
        middle = top + pitch // 2
        screen.text(screen.left + 9, middle, name, 13)
        on = rng.random() < 0.5
        x = screen.right - 36
        screen.draw.rounded_rectangle((x, middle - 6, x + 24, middle + 6), 6, fill=theme.accent if on else theme.line)
        knob = x + 18 if on else x + 6
        screen.draw.ellipse((knob - 4, middle - 4, knob + 4, middle + 4), fill=theme.panel)
        top += pitch


def _mail(screen: Screen) -> None:
    rng, theme = screen.rng, screen.theme
    top = screen.title_bar(f"Inbox ({rng.randint(2, 99)})")
    pitch = rng.randint(30, 38)
    chosen = rng.randint(0, 7)
    for row in range((screen.bottom - top - 4) // pitch):
        if row == chosen:
            screen.selected((screen.left + 2, top + 1, screen.right - 2, top + pitch - 2))
        ink = theme.selection_ink if row == chosen else theme.ink
        screen.text(screen.left + 8, top + 9, rng.choice(WORDS), 13, ink)
        screen.text(screen.right - 36, top + 9, f"{rng.randint(0, 23)}:{rng.randint(10, 59)}", 10, theme.muted)
        words = " ".join(rng.sample(WORDS, 3)).lower()
        screen.text(screen.left + 8, top + 22, words, 10, ink if row == chosen else theme.muted)
        screen.draw.line((screen.left + 4, top + pitch - 1, screen.right - 4, top + pitch - 1), fill=theme.line)
        top += pitch


def _chart(screen: Screen) -> None:
    rng, theme = screen.rng, screen.theme
    top = screen.title_bar(rng.choice(("Sales", "Visits", "Load", "Report"))) + 10
    base, left = screen.bottom - rng.randint(18, 26), screen.left + rng.randint(18, 28)
    screen.draw.line((left, top, left, base), fill=theme.ink)
    screen.draw.line((left, base, screen.right - 8, base), fill=theme.ink)
    bars = rng.randint(4, 8)
    step = (screen.right - 12 - left) // bars
    marked = rng.randint(0, 2 * bars)
    for bar in range(bars):
        x, height = left + 4 + bar * step, rng.randint(10, base - top - 4)
        color = theme.selection if bar == marked else theme.accent
        screen.draw.rectangle((x, base - height, x + step - 5, base - 1), fill=color)
        screen.text(x, base + 9, str(bar + 1), 10, theme.muted)


def _terminal(screen: Screen) -> None:
    rng, theme = screen.rng, screen.theme
    top = screen.title_bar("Terminal")
    screen.draw.rectangle((screen.left + 1, top, screen.right - 1, screen.bottom - 1), fill=(12, 14, 16))
    top += 9
    green = (120, 220, 140)
    while top < screen.bottom - 8:
        line = " ".join(rng.choice(WORDS).lower() for _ in range(rng.randint(1, 3)))
        end = screen.text(screen.left + 6, top, rng.choice(("$ ", "> ", "")) + line, 11, green)
        top += 14
    screen.draw.rectangle((end + 3, top - 20, end + 8, top - 9), fill=theme.selection)


def _keypad(screen: Screen) -> None:
    rng, theme = screen.rng, screen.theme
    top = screen.title_bar(rng.choice(("Calculator", "Dial", "Keypad")))
    screen.draw.rectangle((screen.left + 8, top + 5, screen.right - 8, top + 29), fill=theme.page, outline=theme.line)
    screen.text(screen.right - rng.randint(70, 90), top + 17, str(rng.randint(1000, 99999)), 18)
    top += 36
    columns = rng.randint(3, 4)
    width, height = (screen.width - 16) // columns, (screen.bottom - top - 4) // 4
    pressed = rng.randint(0, 20)
    for index, key in enumerate("789/456*123-0.=+" if columns == 4 else "123456789*0#"):
        x, y = screen.left + 8 + index % columns * width, top + index // columns * height
        box = (x + 1, y + 1, x + width - 2, y + height - 2)
        screen.draw.rounded_rectangle(box, 3, fill=theme.selection if index == pressed else theme.page)
        screen.centered(box, key, 15, theme.selection_ink if index == pressed else None)


def _player(screen: Screen) -> None:
    rng, theme = screen.rng, screen.theme
    top = screen.title_bar("Player") + rng.randint(6, 12)
    side = rng.randint(70, 90)
    left = screen.left + (screen.width - side) // 2
    screen.draw.rectangle((left, top, left + side, top + side), fill=theme.accent)
    inset = rng.randint(14, 24)
    screen.draw.ellipse((left + inset, top + inset, left + side - inset, top + side - inset), fill=theme.page)
    top += side + 14
    screen.text(left, top, " ".join(rng.sample(WORDS, 2)), 13)
    top += 16
    screen.draw.line((screen.left + 14, top, screen.right - 14, top), fill=theme.line, width=3)
    knob = rng.randint(screen.left + 14, screen.right - 14)
    screen.draw.line((screen.left + 14, top, knob, top), fill=theme.selection, width=3)
    middle = screen.left + screen.width // 2
    screen.draw.polygon(((middle - 6, top + 8), (middle - 6, top + 22), (middle + 7, top + 15)), fill=theme.ink)


def _gallery(screen: Screen) -> None:
    rng, theme = screen.rng, screen.theme
    top = screen.title_bar(rng.choice(("Photos", "Gallery", "Files")))
    columns = rng.randint(2, 4)
    side = (screen.width - 8) // columns
    marked = rng.randint(0, 20)
    for index in range(columns * ((screen.bottom - top - 4) // side)):
        x, y = screen.left + 4 + index % columns * side, top + 4 + index // columns * side
        if index == marked:
            screen.selected((x, y, x + side - 2, y + side - 2))
        sky, sea = (rng.randint(40, 220), rng.randint(60, 200), 230), (30, rng.randint(60, 180), rng.randint(40, 140))
        screen.draw.rectangle((x + 4, y + 4, x + side - 6, y + side - 6), fill=sky)
        horizon = y + rng.randint(side // 3, side - 10)
        screen.draw.rectangle((x + 4, horizon, x + side - 6, y + side - 6), fill=sea)
        screen.draw.ellipse((x + 8, y + 7, x + 14, y + 13), fill=theme.panel)
