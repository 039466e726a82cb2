"""What each part of a photo's work costs alone, on one core."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import simplejpeg

from croplake.fetching.crop import Box, Recipe, crop_box, encode_crop
from croplake.fetching.photo import DecodeBuffer, Halvings, decode_photo, look_of
from tests.benchmarks.lean import JPEG_QUALITY
from tests.benchmarks.report import Rounds
from tests.benchmarks.workload import Workload, five_crops, one_crop

DECODING: Final = "decoding"
_NUM_PHOTOS: Final = 100
_ROUNDS: Final = 5
_MAX_PIXELS: Final = 100_000_000


def parts_of_a_photo(folder: Path) -> Rounds:
    """Times hashing, decoding, and cutting of the first hundred photos.

    Args:
        folder: of `photos.build_photos`.

    Returns:
        Milliseconds a photo, five rounds of each part.
    """
    bodies = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))[:_NUM_PHOTOS]]
    photos = [simplejpeg.decode_jpeg(body) for body in bodies]
    buffer = DecodeBuffer()

    def decode() -> None:
        for body in bodies:
            decode_photo(body, max_pixels=_MAX_PIXELS, buffer=buffer)

    def cut(workload: Workload) -> None:
        recipe = Recipe(0.0, workload.max_side_px, JPEG_QUALITY, "area")
        for photo_HWC in photos:
            for box in workload.boxes:
                cut_HWC = crop_box(photo_HWC, Box(*box), padding_frac=0.0)
                encode_crop(Halvings(cut_HWC), recipe, rotation_deg=None)

    parts: dict[str, Callable[[], object]] = {
        DECODING: decode,
        "scaling and encoding, five 224 px crops": lambda: cut(five_crops(1)),
        "scaling and encoding, one 256 px crop": lambda: cut(one_crop(1)),
        "SHA-256": lambda: [hashlib.sha256(body).digest() for body in bodies],
        "look (dHash, colours)": lambda: [look_of(photo_HWC) for photo_HWC in photos],
    }
    rounds = Rounds("ms a photo", title="parts of the work alone, on one core")
    for _ in range(_ROUNDS):
        for name, work in parts.items():
            started = time.perf_counter()
            work()
            rounds.record(name, 1000 * (time.perf_counter() - started) / len(bodies))
    return rounds
