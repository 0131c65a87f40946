"""The canvas every sample is drawn on: a 192x192 window with a theme, the bundled font, and a few widgets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from random import Random

from PIL import Image, ImageDraw, ImageFont

SIZE = 192
"""Width and height of a screen, in pixels."""

NUMBER = 14
"""Font size, in pixels, of the numbers that are asked for; each digit is 8 pixels wide."""

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]

WORDS = [
    "Alder",
    "Amber",
    "Aspen",
    "Atlas",
    "Aurora",
    "Basil",
    "Beacon",
    "Birch",
    "Bridge",
    "Cedar",
    "Clover",
    "Cobalt",
    "Coral",
    "Delta",
    "Ember",
    "Falcon",
    "Fern",
    "Garnet",
    "Glen",
    "Grove",
    "Harbor",
    "Hazel",
    "Heron",
    "Indigo",
    "Iris",
    "Ivory",
    "Jasper",
    "Juniper",
    "Lagoon",
    "Laurel",
    "Linden",
    "Lotus",
    "Maple",
    "Marble",
    "Meadow",
    "Mesa",
    "Nova",
    "Oak",
    "Olive",
    "Onyx",
    "Opal",
    "Orchid",
    "Pearl",
    "Pine",
    "Quartz",
    "Raven",
    "Ridge",
    "River",
    "Rowan",
    "Sable",
    "Sage",
    "Sierra",
    "Slate",
    "Spruce",
    "Summit",
    "Terra",
    "Tulip",
    "Valley",
    "Willow",
    "Zephyr",
]
"""Neutral words for names, titles and filler."""


@dataclass(frozen=True)
class Theme:
    """Colours of a screen. `selection` is the one warm colour: it marks what is chosen."""

    page: Color
    panel: Color
    ink: Color
    muted: Color
    line: Color
    accent: Color
    selection: Color
    selection_ink: Color


THEMES = (
    Theme((226, 232, 240), (255, 255, 255), (20, 24, 32), (120, 128, 140), (190, 198, 208), (40, 96, 200),
          (255, 176, 60), (30, 16, 0)),
    Theme((222, 236, 226), (246, 252, 246), (16, 40, 24), (110, 136, 118), (178, 204, 184), (24, 128, 92),
          (250, 160, 50), (30, 16, 0)),
    Theme((232, 226, 242), (250, 248, 255), (34, 22, 52), (132, 120, 148), (200, 190, 216), (112, 64, 184),
          (255, 168, 72), (30, 16, 0)),
    Theme((214, 216, 220), (238, 240, 242), (12, 12, 14), (104, 108, 112), (170, 174, 180), (70, 84, 110),
          (246, 170, 40), (30, 16, 0)),
    Theme((200, 218, 232), (224, 238, 248), (8, 28, 48), (92, 120, 144), (156, 184, 208), (16, 104, 160),
          (255, 160, 64), (30, 16, 0)),
    Theme((240, 222, 224), (255, 244, 244), (52, 16, 24), (150, 116, 122), (220, 186, 190), (168, 48, 84),
          (248, 172, 52), (30, 16, 0)),
)  # fmt: skip


def jitter(rng: Random, color: Color, amount: int) -> Color:
    """The colour with each channel moved by up to `amount`, kept in 0..255."""
    red, green, blue = (min(255, max(0, channel + rng.randint(-amount, amount))) for channel in color)
    return red, green, blue


def pick_theme(rng: Random) -> Theme:
    """One of THEMES with every colour jittered a little."""
    base = rng.choice(THEMES)
    return Theme(
        page=jitter(rng, base.page, 8),
        panel=jitter(rng, base.panel, 6),
        ink=jitter(rng, base.ink, 10),
        muted=jitter(rng, base.muted, 10),
        line=jitter(rng, base.line, 10),
        accent=jitter(rng, base.accent, 14),
        selection=jitter(rng, base.selection, 12),
        selection_ink=base.selection_ink,
    )


def on_lattice(position: float) -> int:
    """The multiple of 4 pixels next to `position`."""
    return math.floor(position / 4 + 0.5) * 4


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font at `size` pixels; basic layout, so that no system library changes the result."""
    default = ImageFont.load_default(size)
    if not isinstance(default, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, which the bundled font needs.")
    return default.font_variant(layout_engine=ImageFont.Layout.BASIC)


class Screen:
    """A blank window in a random theme and place; draw on it with the methods, then take `image`."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.theme = pick_theme(rng)
        self.image = Image.new("RGB", (SIZE, SIZE), self.theme.page)
        self.draw = ImageDraw.Draw(self.image)
        self.box: Box = (
            rng.randint(0, 4),
            rng.randint(0, 4),
            SIZE - 1 - rng.randint(0, 4),
            SIZE - 1 - rng.randint(0, 4),
        )
        self.draw.rounded_rectangle(self.box, rng.randint(0, 5), fill=self.theme.panel, outline=self.theme.line)

    @property
    def left(self) -> int:
        return self.box[0]

    @property
    def top(self) -> int:
        return self.box[1]

    @property
    def right(self) -> int:
        return self.box[2]

    @property
    def bottom(self) -> int:
        return self.box[3]

    @property
    def width(self) -> int:
        return self.right - self.left

    def text(self, x: float, middle: float, text: str, size: int, fill: Color | None = None) -> float:
        """Write `text` from x, vertically centred on about `middle`; returns the x where it ends.

        Text starts on a lattice of 4 x 4 pixels, so that a small vision tower sees the same glyphs again.
        """
        face = font(size)
        x, middle = on_lattice(x), on_lattice(middle)
        self.draw.text((x, middle), text, font=face, fill=fill or self.theme.ink, anchor="lm")
        return x + face.getlength(text)

    def centered(self, box: Box, text: str, size: int, fill: Color | None = None) -> None:
        """Write `text` in the middle of `box`."""
        x = (box[0] + box[2] + 1) / 2 - font(size).getlength(text) / 2
        self.text(x, (box[1] + box[3] + 1) / 2, text, size, fill)

    def title_bar(self, title: str) -> int:
        """A bar across the top of the window with a title and buttons; returns the y below it."""
        height = self.rng.randint(17, 22)
        filled = self.rng.random() < 0.6
        bar = (self.left + 1, self.top + 1, self.right - 1, self.top + height)
        if filled:
            self.draw.rectangle(bar, fill=self.theme.accent)
        else:
            self.draw.line((bar[0], bar[3], bar[2], bar[3]), fill=self.theme.line)
        ink = self.theme.panel if filled else self.theme.ink
        self.text(self.left + self.rng.randint(5, 12), self.top + height / 2, title, self.rng.randint(11, 13), ink)
        for index in range(self.rng.randint(0, 3)):
            x, y = self.right - 9 - index * 9, self.top + height // 2
            self.draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=self.theme.line)
        return self.top + height + 1

    def button(self, box: Box, label: str) -> None:
        """A push button."""
        filled = self.rng.random() < 0.5
        self.draw.rounded_rectangle(
            box, 3, fill=self.theme.accent if filled else self.theme.panel, outline=self.theme.line
        )
        self.centered(box, label, 11, self.theme.panel if filled else self.theme.ink)

    def selected(self, box: Box, radius: int = 2) -> None:
        """Fill `box` with the selection colour."""
        self.draw.rounded_rectangle(box, radius, fill=self.theme.selection)

    def pointer(self) -> None:
        """A mouse pointer on an empty spot, now and then: a distractor that hides nothing."""
        if self.rng.random() < 0.5:
            return
        for _ in range(4):
            x, y = self.rng.randint(2, SIZE - 14), self.rng.randint(2, SIZE - 14)
            if self.image.crop((x - 1, y - 1, x + 9, y + 12)).getcolors(1):
                arrow = ((x, y), (x, y + 9), (x + 2, y + 7), (x + 6, y + 6))
                self.draw.polygon(arrow, fill=self.theme.muted, outline=self.theme.line)
                return
