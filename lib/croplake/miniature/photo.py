"""A photo's files: the original, the mirror's copy, the thumbnail; and its CSV rows' facts."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from croplake.catalog.formats import Subset
from croplake.miniature.scene import Thing, draw_scene

MIRROR_SIDE_PX: Final = 1024
THUMBNAIL_SIDE_PX: Final = 320

_CLOCKWISE: Final = {
    90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class BoxFacts:
    """An annotated box in the stored frame; corners in [0, 1]."""

    class_name: str
    x_min: float
    x_max: float
    y_min: float
    y_max: float
    flags: dict[str, int]


@dataclass(frozen=True)
class PhotoFacts:
    """What the CSVs say of a photo.

    Attributes:
        image_id: 16 hex digits.
        subset: of Open Images.
        kind: `colour`, `grey`, `cmyk`, `progressive` or `png`, of the original.
        rotation_deg: counter-clockwise degrees that set it upright; None is unknown, 0 in truth.
        original_path: on Flickr's hosts.
        thumbnail_path: on Flickr's hosts; None where the CSV has none.
        host: Flickr's farm.
        original_size_bytes: of the original.
        original_md5_base64: of the original.
        boxes: annotated.
    """

    image_id: str
    subset: Subset
    kind: str
    rotation_deg: int | None
    original_path: str
    thumbnail_path: str | None
    host: str
    original_size_bytes: int
    original_md5_base64: str
    boxes: list[BoxFacts]


def subset_of(rng: np.random.Generator) -> Subset:
    """70 % train, 10 % validation, 20 % test."""
    draw = rng.random()
    return "train" if draw < 0.7 else "validation" if draw < 0.8 else "test"


def make_photo(root: Path, seed: int, index: int) -> PhotoFacts:
    """Draws a photo and writes its three files.

    Args:
        root: of the world.
        seed: of the world.
        index: of the photo; it and the seed decide everything.

    Returns:
        Its facts.
    """
    rng = np.random.default_rng([seed, index])
    image_id = hashlib.sha256(f"{seed}/{index}".encode()).hexdigest()[:16]
    subset = subset_of(rng)
    scene = draw_scene(rng)
    kind = str(
        rng.choice(
            ["colour", "grey", "cmyk", "progressive", "png"], p=[0.78, 0.04, 0.03, 0.11, 0.04]
        )
    )
    rotation = _rotation(rng)
    upright = scene.image if rng.random() > 0.03 else _enlarge(scene.image)
    stored = upright.transpose(_CLOCKWISE[rotation]) if rotation else upright
    original = _encode_original(stored, kind)
    _write(root / "originals" / image_id, original)
    _write(root / "mirror" / subset / f"{image_id}.jpg", _encode_mirror(stored, kind))
    _write(root / "thumbnails" / f"{image_id}.jpg", _encode_thumbnail(upright))
    number, secret = int(rng.integers(10**9, 10**10)), f"{int(rng.integers(1 << 40)):010x}"
    folder = f"/{int(rng.integers(1000, 9999))}/{number}_{secret}"
    return PhotoFacts(
        image_id=image_id,
        subset=subset,
        kind=kind,
        rotation_deg=None if rotation == 0 and rng.random() < 0.03 else rotation,
        original_path=f"{folder}_o.{'png' if kind == 'png' else 'jpg'}",
        thumbnail_path=None if rng.random() < 0.025 else f"{folder}_z.jpg",
        host=f"farm{int(rng.integers(1, 10))}.staticflickr.com",
        original_size_bytes=len(original),
        original_md5_base64=_md5_base64(original),
        boxes=[_box(thing, scene.image.size, rotation) for thing in scene.things],
    )


def _md5_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _rotation(rng: np.random.Generator) -> int:
    return int(rng.choice([0, 90, 180, 270], p=[0.94, 0.025, 0.01, 0.025]))


def _enlarge(image: Image.Image) -> Image.Image:
    """An original as large as cameras make them, so that the mirror's copy is a smaller one."""
    scale = 1500 / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def _box(thing: Thing, size: tuple[int, int], rotation: int) -> BoxFacts:
    """The thing's box in the stored frame: turned clockwise with the photo."""
    width, height = size
    left, top, right, bottom = thing.box_px
    x0, x1, y0, y1 = left / width, right / width, top / height, bottom / height
    if rotation == 90:
        x0, x1, y0, y1 = 1 - y1, 1 - y0, x0, x1
    elif rotation == 180:
        x0, x1, y0, y1 = 1 - x1, 1 - x0, 1 - y1, 1 - y0
    elif rotation == 270:
        x0, x1, y0, y1 = y0, y1, 1 - x1, 1 - x0
    return BoxFacts(thing.class_name, x0, x1, y0, y1, thing.flags)


def _encode_original(stored: Image.Image, kind: str) -> bytes:
    if kind == "png":
        # A palette keeps the file small; the mirror shows that the pixels are the photo's.
        return _encoded(stored.quantize(128), "PNG")
    return _encoded(_in_mode(stored, kind), "JPEG", quality=92, progressive=kind == "progressive")


def _encode_mirror(stored: Image.Image, kind: str) -> bytes:
    copy = _in_mode(stored, kind)
    copy.thumbnail((MIRROR_SIDE_PX, MIRROR_SIDE_PX), Image.Resampling.LANCZOS)
    return _encoded(copy, "JPEG", quality=88, progressive=kind == "progressive")


def _encode_thumbnail(upright: Image.Image) -> bytes:
    small = upright.copy()
    small.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), Image.Resampling.LANCZOS)
    return _encoded(small, "JPEG", quality=85)


def _in_mode(image: Image.Image, kind: str) -> Image.Image:
    return image.convert({"grey": "L", "cmyk": "CMYK"}.get(kind, "RGB"))


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
