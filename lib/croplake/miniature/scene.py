"""One photo of the miniature world: background, light, things, and where they ended up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from croplake.miniature.shapes import MAIN_SHAPES, OTHER_SHAPES, Shape, draw_shape

Canvas = NDArray[np.uint8]

_SIDES_PX: Final = ((480, 360), (512, 384), (640, 426), (480, 480), (426, 640), (360, 480))
_MAIN_SHARE: Final = 0.88


@dataclass
class Thing:
    """An annotated object, in the upright frame.

    Attributes:
        class_name: of the class list.
        box_px: left, top, right, bottom of what is inside the photo, hidden parts included.
        flags: `IsOccluded` … as they are in truth.
        mask: True where the object shows, shape (height, width) of the photo.
    """

    class_name: str
    box_px: tuple[int, int, int, int]
    flags: dict[str, int]
    mask: NDArray[np.bool_]
    num_pixels: int = field(default=0)


@dataclass(frozen=True)
class Scene:
    """An upright photo and its objects."""

    image: Image.Image
    things: list[Thing]


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draws a photo with two to five annotated things.

    Args:
        rng: decides everything.

    Returns:
        The upright RGB photo and what is in it.
    """
    width, height = _SIDES_PX[rng.integers(len(_SIDES_PX))]
    image = _background(width, height, rng)
    things: list[Thing] = []
    for _ in range(int(rng.integers(2, 6))):
        placed = _place(image, things, rng)
        if placed is not None:
            things.append(placed)
    _bar(image, things, rng)
    for thing in things:
        showing = int(thing.mask.sum())
        thing.flags["IsOccluded"] = int(showing < 0.97 * thing.num_pixels)
    return Scene(_develop(image, rng), things)


def draw_portrait(shape: Shape, rng: np.random.Generator) -> Image.Image:
    """Draws a photo that one large thing fills."""
    thing = draw_shape(shape, int(rng.uniform(180, 260)), rng)
    width, height = (int(side * rng.uniform(1.05, 1.25)) for side in thing.size)
    image = _background(width, height, rng)
    image.alpha_composite(thing, ((width - thing.width) // 2, (height - thing.height) // 2))
    return _develop(image, rng)


def _background(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Clutter, somewhat out of focus: drawn at half size, for the blur is what takes time."""
    corners = rng.uniform(40, 225, (2, 2, 3)).astype(np.uint8)
    half = (width // 2, height // 2)
    image = Image.fromarray(corners).resize(half, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.3:
        _stripes(draw, half, rng)
    for _ in range(int(rng.integers(6, 16))):
        centre = rng.uniform(0, 1, 2) * half
        spread = rng.uniform(6, 45)
        points = centre + rng.normal(0, spread, (int(rng.integers(3, 7)), 2))
        colour = tuple(int(part) for part in rng.uniform(20, 240, 3))
        if rng.random() < 0.3:
            (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
            draw.ellipse((x0, y0, x1, y1), fill=colour)
        else:
            draw.polygon([tuple(point) for point in points], fill=colour)
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    return blurred.resize((width, height), Image.Resampling.BILINEAR).convert("RGBA")


def _stripes(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    width, height = size
    colour = tuple(int(part) for part in rng.uniform(40, 220, 3))
    step = int(rng.uniform(9, 30))
    slant = rng.uniform(-60, 60)
    for x in range(-60, width + 60, step):
        draw.line([(x, 0), (x + slant, height)], fill=colour, width=max(1, step // 4))


def _choose(rng: np.random.Generator) -> Shape:
    shapes = MAIN_SHAPES if rng.random() < _MAIN_SHARE else OTHER_SHAPES
    return shapes[rng.integers(len(shapes))]


def _place(image: Image.Image, things: list[Thing], rng: np.random.Generator) -> Thing | None:
    """Puts one thing where it hides little of the others; None where no place was found."""
    shape, kind = _choose(rng), rng.random()
    flags = dict.fromkeys(("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"), 0)
    if kind < 0.05:
        drawn, flags["IsGroupOf"] = _group(shape, rng), 1
    elif kind < 0.10:
        drawn, flags["IsDepiction"] = _framed(shape, rng), 1
    else:
        height_px = int(np.exp(rng.uniform(np.log(40), np.log(210))))
        drawn = draw_shape(shape, height_px, rng)
    drawn.thumbnail((int(image.width * 0.8), int(image.height * 0.8)))
    may_cross_edge = rng.random() < 0.15
    flags["IsInside"] = int(rng.random() < 0.003)
    for _ in range(12):
        left, top = _position(drawn, image, rng, may_cross_edge=may_cross_edge)
        thing = _paste(image, things, drawn, (left, top), shape.class_name, flags)
        if thing is not None:
            return thing
    return None


def _position(
    drawn: Image.Image, image: Image.Image, rng: np.random.Generator, *, may_cross_edge: bool
) -> tuple[int, int]:
    margin_x, margin_y = (drawn.width // 3, drawn.height // 3) if may_cross_edge else (0, 0)
    left = int(rng.integers(-margin_x, max(-margin_x, image.width - drawn.width + margin_x) + 1))
    top = int(rng.integers(-margin_y, max(-margin_y, image.height - drawn.height + margin_y) + 1))
    return left, top


def _paste(
    image: Image.Image,
    things: list[Thing],
    drawn: Image.Image,
    at: tuple[int, int],
    class_name: str,
    flags: dict[str, int],
) -> Thing | None:
    layer = Image.new("L", image.size, 0)
    layer.paste(drawn.getchannel("A"), at)
    mask = np.asarray(layer) >= 128
    box_px = layer.point(lambda alpha: 255 if alpha >= 128 else 0).getbbox()
    if box_px is None or any(
        (other.mask & mask).sum() > 0.22 * other.num_pixels for other in things
    ):
        return None
    image.paste(drawn, at, drawn)
    for other in things:
        other.mask = other.mask & ~mask
    right, bottom = at[0] + drawn.width, at[1] + drawn.height
    crosses = at[0] < 0 or at[1] < 0 or right > image.width or bottom > image.height
    flags = flags | {"IsTruncated": int(crosses)}
    return Thing(class_name, box_px, flags, mask, int(mask.sum()))


def _group(shape: Shape, rng: np.random.Generator) -> Image.Image:
    """Six or more small ones that touch."""
    canvas = Image.new("RGBA", (240, 150), (0, 0, 0, 0))
    for number in range(int(rng.integers(6, 9))):
        one = draw_shape(shape, int(rng.uniform(48, 72)), rng)
        one.thumbnail((80, 72))
        at = (min(24 * number, 240 - one.width), int(rng.integers(0, 150 - one.height)))
        canvas.alpha_composite(one, at)
    return canvas.crop(canvas.getbbox())


def _framed(shape: Shape, rng: np.random.Generator) -> Image.Image:
    """A picture of the thing: on paper, in a frame."""
    inner = draw_shape(shape, int(rng.uniform(60, 120)), rng)
    size = (inner.width + 36, inner.height + 36)
    frame = Image.new("RGBA", size, (90, 60, 30, 255))
    ImageDraw.Draw(frame).rectangle((8, 8, size[0] - 9, size[1] - 9), fill=(245, 242, 230, 255))
    frame.alpha_composite(inner, (18, 18))
    return frame


def _bar(image: Image.Image, things: list[Thing], rng: np.random.Generator) -> None:
    """Now and then a pole stands in front of everything."""
    if rng.random() > 0.25:
        return
    left, width = int(rng.integers(0, image.width - 10)), int(rng.integers(4, 12))
    colour = (*(int(part) for part in rng.uniform(20, 230, 3)), 255)
    ImageDraw.Draw(image).rectangle((left, 0, left + width, image.height), fill=colour)
    for thing in things:
        thing.mask[:, left : left + width + 1] = False


def _develop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light from one side, contrast, and the sensor's noise."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    height, width = pixels.shape[:2]
    slope = rng.uniform(-0.3, 0.3, 2)
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :, None]
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None, None]
    light = rng.uniform(0.75, 1.2) * (1 + slope[0] * across + slope[1] * down)
    contrast = rng.uniform(0.75, 1.15)
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * rng.uniform(1, 6)
    shot = (pixels - 128) * contrast * light + 128 * light + noise
    return Image.fromarray(shot.clip(0, 255).astype(np.uint8))
