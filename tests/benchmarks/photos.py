"""The benchmark's photos: distinct 1024×768 JPEGs of about 260 KB, drawn once and kept."""

from __future__ import annotations

import io
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NUM_FILES: Final = 400
WIDTH_PX: Final = 1024
HEIGHT_PX: Final = 768
_SEED: Final = 17
_DRAWING: Final = 1
"""Goes up when the same seed would draw other photos, so that kept ones are drawn again."""
_MEAN_BYTES: Final = 260_000
_SPREAD: Final = 0.25
_QUALITY: Final = 90
_CHROMA: Final = 0.35


@dataclass(frozen=True)
class Photos:
    """The files.

    Attributes:
        folder: of `000.jpg`, `001.jpg`, …
        mean_bytes: of a file.
    """

    folder: Path
    mean_bytes: float


def build_photos(folder: Path) -> Photos:
    """Draws the photos into `folder`, or takes those that are there."""
    note = folder / "photos.json"
    made_by = {"drawing": _DRAWING, "seed": _SEED, "num_files": NUM_FILES}
    if not note.exists() or json.loads(note.read_text()) != made_by:
        folder.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(mp_context=spawn) as pool:
            list(pool.map(partial(_write_photo, folder), range(NUM_FILES), chunksize=10))
        note.write_text(json.dumps(made_by))
    sizes = [(folder / f"{index:03d}.jpg").stat().st_size for index in range(NUM_FILES)]
    return Photos(folder, mean(sizes))


def _write_photo(folder: Path, index: int) -> None:
    """One photo: the strength of its texture is searched until the file has its drawn size."""
    rng = np.random.default_rng([_SEED, index])
    wanted_bytes = _MEAN_BYTES * rng.lognormal(-(_SPREAD**2) / 2, _SPREAD)
    scene, texture = _shapes(rng), _texture(rng)
    low, high = 0.0, 120.0
    for _ in range(9):
        strength = (low + high) / 2
        data = _encode(scene + strength * texture)
        if len(data) > wanted_bytes:
            high = strength
        else:
            low = strength
    (folder / f"{index:03d}.jpg").write_bytes(data)


def _encode(planes: NDArray[np.float32]) -> bytes:
    """Y, Cb, Cr of shape (3, height, width) as a camera writes them: chroma halved both ways."""
    pixels = np.ascontiguousarray(planes.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(pixels, "YCbCr").save(buffer, "JPEG", quality=_QUALITY, subsampling=2)
    return buffer.getvalue()


def _texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise whose amplitude falls as 1/f, as that of photos does; standard deviation 1 in Y.

    Returns:
        float32, shape (3, height, width); the two colour planes are weaker and share Y's lights.
    """
    y = np.fft.fftfreq(HEIGHT_PX)[:, None]
    x = np.fft.rfftfreq(WIDTH_PX)[None, :]
    frequency = np.hypot(y, x)
    frequency[0, 0] = np.inf
    planes: list[NDArray[np.float32]] = []
    for weight in (1.0, _CHROMA, _CHROMA):
        noise = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
        plane = np.fft.irfft2(noise / frequency, s=(HEIGHT_PX, WIDTH_PX))
        planes.append((weight * plane / plane.std()).astype(np.float32))
    return np.stack(planes)


def _shapes(rng: np.random.Generator) -> NDArray[np.float32]:
    """Ellipses and rectangles with shading over a gradient: a photo's edges and plains.

    Returns:
        float32 Y, Cb, Cr, shape (3, height, width).
    """
    y = np.linspace(0, 1, HEIGHT_PX, dtype=np.float32)[:, None]
    x = np.linspace(0, 1, WIDTH_PX, dtype=np.float32)[None, :]
    scene = np.empty((3, HEIGHT_PX, WIDTH_PX), np.float32)
    scene[0] = 128 + 60 * (y - 0.5) * rng.uniform(-1, 1) + 60 * (x - 0.5) * rng.uniform(-1, 1)
    scene[1:] = 128 + rng.uniform(-12, 12, (2, 1, 1))
    for _ in range(rng.integers(6, 25)):
        centre_x, centre_y = rng.uniform(0, 1, 2)
        side_x, side_y = rng.uniform(0.03, 0.3, 2)
        across, down = (x - centre_x) / side_x, (y - centre_y) / side_y
        inside = (
            across**2 + down**2 < 1
            if rng.random() < 0.6
            else np.maximum(np.abs(across), np.abs(down)) < 1
        )
        shading = (rng.uniform(-25, 25) * across + rng.uniform(-25, 25) * down)[inside]
        scene[0][inside] = rng.uniform(50, 205) + shading
        scene[1:, inside] = 128 + rng.uniform(-40, 40, (2, 1))
    return scene
