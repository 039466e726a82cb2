"""The things of the miniature world: upright silhouettes of real classes, drawn in any colour."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
_SUPERSAMPLING: Final = 2


@dataclass(frozen=True)
class Palette:
    """Colours of one thing: its body, a darker and a lighter tone, and an accent."""

    body: Rgb
    dark: Rgb
    light: Rgb
    accent: Rgb


class Pen:
    """Draws on a canvas whose sides are 1."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._width, self._height = image.width - 1, image.height - 1

    def _at(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * self._width, y * self._height) for x, y in points]

    def polygon(self, colour: Rgb, *points: tuple[float, float]) -> None:
        """Fills a polygon."""
        self._draw.polygon(self._at(points), fill=colour)

    def box(self, colour: Rgb, x0: float, y0: float, x1: float, y1: float) -> None:
        """Fills an upright rectangle."""
        self._draw.rectangle(self._at([(x0, y0), (x1, y1)]), fill=colour)

    def oval(self, colour: Rgb, x0: float, y0: float, x1: float, y1: float) -> None:
        """Fills an oval."""
        self._draw.ellipse(self._at([(x0, y0), (x1, y1)]), fill=colour)

    def pie(
        self, colour: Rgb, x0: float, y0: float, x1: float, y1: float, start: int, end: int
    ) -> None:
        """Fills a sector, degrees clockwise from three o'clock."""
        self._draw.pieslice(self._at([(x0, y0), (x1, y1)]), start, end, fill=colour)

    def arc(
        self, colour: Rgb, x0: float, y0: float, x1: float, y1: float, start: int, end: int
    ) -> None:
        """Draws a thick arc, degrees clockwise from three o'clock."""
        width = max(2, round(0.05 * min(self._width, self._height)))
        self._draw.arc(self._at([(x0, y0), (x1, y1)]), start, end, fill=colour, width=width)


def _house(pen: Pen, c: Palette) -> None:
    pen.box(c.dark, 0.7, 0.05, 0.82, 0.4)
    pen.polygon(c.dark, (0, 0.48), (0.5, 0), (1, 0.48))
    pen.box(c.body, 0.1, 0.46, 0.9, 1)
    pen.box(c.dark, 0.42, 0.65, 0.6, 1)
    pen.box(c.light, 0.17, 0.57, 0.34, 0.75)
    pen.box(c.light, 0.68, 0.57, 0.84, 0.75)


def _tree(pen: Pen, c: Palette) -> None:
    pen.box(c.dark, 0.43, 0.7, 0.57, 1)
    pen.polygon(c.body, (0.5, 0), (0.16, 0.36), (0.84, 0.36))
    pen.polygon(c.body, (0.5, 0.16), (0.07, 0.58), (0.93, 0.58))
    pen.polygon(c.body, (0.5, 0.38), (0, 0.82), (1, 0.82))
    pen.oval(c.accent, 0.4, 0.3, 0.48, 0.36)
    pen.oval(c.accent, 0.58, 0.55, 0.66, 0.61)


def _snowman(pen: Pen, c: Palette) -> None:
    pen.oval(c.light, 0.02, 0.52, 0.98, 1)
    pen.oval(c.light, 0.14, 0.28, 0.86, 0.64)
    pen.oval(c.light, 0.26, 0.09, 0.74, 0.36)
    pen.box(c.dark, 0.3, 0, 0.7, 0.11)
    pen.box(c.dark, 0.18, 0.1, 0.82, 0.14)
    for y in (0.4, 0.5, 0.62, 0.74):
        pen.oval(c.dark, 0.46, y, 0.54, y + 0.04)
    pen.polygon(c.accent, (0.48, 0.21), (0.48, 0.27), (0.78, 0.25))


def _traffic_light(pen: Pen, c: Palette) -> None:
    pen.box(c.dark, 0.4, 0.6, 0.6, 1)
    pen.box(c.body, 0.08, 0, 0.92, 0.76)
    for number, colour in enumerate((c.accent, c.light, c.accent)):
        top = 0.04 + 0.24 * number
        pen.oval(c.dark, 0.2, top, 0.8, top + 0.21)
        pen.oval(colour, 0.27, top + 0.025, 0.73, top + 0.185)


def _boat(pen: Pen, c: Palette) -> None:
    pen.box(c.dark, 0.46, 0, 0.5, 0.74)
    pen.polygon(c.light, (0.52, 0.03), (0.52, 0.64), (0.94, 0.64))
    pen.polygon(c.accent, (0.44, 0.12), (0.44, 0.64), (0.1, 0.64))
    pen.polygon(c.body, (0, 0.72), (1, 0.72), (0.82, 1), (0.18, 1))


def _wine_glass(pen: Pen, c: Palette) -> None:
    pen.pie(c.light, 0.06, -0.5, 0.94, 0.56, 0, 180)
    pen.pie(c.accent, 0.14, -0.3, 0.86, 0.5, 0, 180)
    pen.box(c.light, 0.45, 0.52, 0.55, 0.94)
    pen.oval(c.body, 0.14, 0.9, 0.86, 1)


def _ladder(pen: Pen, c: Palette) -> None:
    pen.polygon(c.body, (0.1, 0), (0.26, 0), (0.16, 1), (0, 1))
    pen.polygon(c.body, (0.74, 0), (0.9, 0), (1, 1), (0.84, 1))
    for number in range(6):
        y = 0.1 + 0.15 * number
        pen.box(c.dark, 0.13, y, 0.87, y + 0.05)


def _fish(pen: Pen, c: Palette) -> None:
    pen.polygon(c.dark, (0.66, 0.5), (1, 0.08), (0.92, 0.5), (1, 0.92))
    pen.polygon(c.dark, (0.3, 0.2), (0.62, 0), (0.6, 0.25))
    pen.oval(c.body, 0, 0.12, 0.78, 0.9)
    pen.oval(c.light, 0.12, 0.32, 0.24, 0.5)
    pen.oval(c.dark, 0.155, 0.37, 0.21, 0.46)
    pen.polygon(c.accent, (0.38, 0.5), (0.58, 0.36), (0.58, 0.68))


def _umbrella(pen: Pen, c: Palette) -> None:
    pen.box(c.dark, 0.475, 0, 0.525, 0.9)
    pen.pie(c.body, 0, 0.06, 1, 1.0, 180, 360)
    pen.pie(c.accent, 0.33, 0.06, 0.67, 1.0, 180, 360)
    for number in range(3):
        x = number / 3
        pen.pie(c.dark, x, 0.47, x + 0.34, 0.62, 180, 360)
    pen.arc(c.dark, 0.475, 0.8, 0.7, 1, 0, 180)


def _mushroom(pen: Pen, c: Palette) -> None:
    pen.polygon(c.light, (0.36, 0.45), (0.64, 0.45), (0.74, 1), (0.26, 1))
    pen.pie(c.body, 0, 0, 1, 1.04, 180, 360)
    for x, y, r in ((0.22, 0.3, 0.07), (0.5, 0.12, 0.08), (0.72, 0.32, 0.09), (0.46, 0.36, 0.06)):
        pen.oval(c.light, x - r, y - r, x + r, y + r)


def _balloon(pen: Pen, c: Palette) -> None:
    pen.oval(c.body, 0, 0, 1, 0.74)
    pen.polygon(c.body, (0.5, 0.7), (0.4, 0.8), (0.6, 0.8))
    pen.box(c.dark, 0.48, 0.8, 0.52, 1)
    pen.oval(c.light, 0.2, 0.12, 0.4, 0.3)


def _clock(pen: Pen, c: Palette) -> None:
    pen.oval(c.dark, 0, 0, 1, 1)
    pen.oval(c.light, 0.08, 0.08, 0.92, 0.92)
    pen.box(c.dark, 0.47, 0.2, 0.53, 0.54)
    pen.box(c.accent, 0.5, 0.49, 0.76, 0.55)


def _candle(pen: Pen, c: Palette) -> None:
    pen.polygon(c.accent, (0.5, 0), (0.3, 0.2), (0.5, 0.3), (0.7, 0.2))
    pen.box(c.body, 0.15, 0.3, 0.85, 1)
    pen.box(c.light, 0.15, 0.3, 0.35, 0.7)


@dataclass(frozen=True)
class Shape:
    """A drawable class.

    Attributes:
        class_name: as in the class list.
        draw: fills a canvas of sides 1.
        aspect: width by height.
        hue: the hue it tends to, in turns.
    """

    class_name: str
    draw: Callable[[Pen, Palette], None]
    aspect: float
    hue: float


MAIN_SHAPES: Final = (
    Shape("Boat", _boat, 1.05, 0.58),
    Shape("Fish", _fish, 1.6, 0.08),
    Shape("House", _house, 1.0, 0.02),
    Shape("Ladder", _ladder, 0.5, 0.1),
    Shape("Mushroom", _mushroom, 1.0, 0.0),
    Shape("Snowman", _snowman, 0.66, 0.55),
    Shape("Traffic light", _traffic_light, 0.42, 0.3),
    Shape("Tree", _tree, 0.75, 0.33),
    Shape("Umbrella", _umbrella, 1.0, 0.8),
    Shape("Wine glass", _wine_glass, 0.55, 0.95),
)
OTHER_SHAPES: Final = (
    Shape("Balloon", _balloon, 0.72, 0.9),
    Shape("Candle", _candle, 0.4, 0.12),
    Shape("Clock", _clock, 1.0, 0.6),
)


def random_palette(shape: Shape, rng: np.random.Generator) -> Palette:
    """Colours that lean towards the class's hue, but not so far that colour would tell classes."""
    leaning = rng.random() < 0.25
    hue = (shape.hue + rng.normal(0, 0.06)) % 1 if leaning else rng.random()
    saturation, value = rng.uniform(0.35, 0.95), rng.uniform(0.45, 0.95)
    other = (hue + rng.uniform(0.25, 0.75)) % 1
    return Palette(
        body=_rgb(hue, saturation, value),
        dark=_rgb(hue, saturation, value * rng.uniform(0.3, 0.55)),
        light=_rgb(hue, saturation * 0.25, min(1.0, value * 1.4)),
        accent=_rgb(other, saturation, value),
    )


def _rgb(hue: float, saturation: float, value: float) -> Rgb:
    r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * r), round(255 * g), round(255 * b)


def draw_shape(shape: Shape, height_px: int, rng: np.random.Generator) -> Image.Image:
    """Draws one thing, a little tilted and stretched, cut to its outline.

    Args:
        shape: what to draw.
        height_px: of the thing before it is tilted.
        rng: chooses colours, tilt, stretch and side.

    Returns:
        RGBA; its alpha touches all four sides.
    """
    width_px = max(8, round(height_px * shape.aspect * rng.uniform(0.82, 1.22)))
    size = (width_px * _SUPERSAMPLING, max(8, height_px) * _SUPERSAMPLING)
    colours = random_palette(shape, rng)
    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    shape.draw(Pen(canvas), colours)
    if rng.random() < 0.5:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    tilted = canvas.rotate(rng.uniform(-9, 9), Image.Resampling.BILINEAR, expand=True)
    small = tilted.reduce(_SUPERSAMPLING)
    # Faint edges would make the box larger than what an annotator sees.
    solid = small.getchannel("A").point(lambda alpha: 255 if alpha >= 128 else 0)
    return small.crop(solid.getbbox())
