"""What is fetched: how many photos, which boxes of each, and how great a crop may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.benchmarks.nginx import FILE_DIGITS
from tests.benchmarks.photos import NUM_FILES

Corners = tuple[float, float, float, float]
"""x_min, x_max, y_min, y_max in [0, 1]."""

WHOLE_FRAME: Final[tuple[Corners, ...]] = ((0.0, 1.0, 0.0, 1.0),)
FIVE_BOXES: Final[tuple[Corners, ...]] = (
    (0.03, 0.97, 0.05, 0.95),
    (0.08, 0.58, 0.15, 0.85),
    (0.50, 0.95, 0.10, 0.55),
    (0.20, 0.45, 0.50, 0.90),
    (0.70, 0.82, 0.60, 0.78),
)
"""From nearly the whole photo to one that is smaller than a crop may be."""


@dataclass(frozen=True)
class Workload:
    """Photos and their boxes.

    Attributes:
        num_photos: distinct ids; beyond `NUM_FILES` files repeat under further ids.
        boxes: of every photo.
        max_side_px: greatest side of a crop.
        subset: all photos are of.
    """

    num_photos: int
    boxes: tuple[Corners, ...]
    max_side_px: int
    subset: str = "train"

    def image_ids(self) -> list[str]:
        """The photos' ids: 16 hex digits, the last of them decimal, the number of the file."""
        head = 16 - FILE_DIGITS
        return [
            f"{index:0{head}x}{index % NUM_FILES:0{FILE_DIGITS}d}"
            for index in range(self.num_photos)
        ]


def one_crop(num_photos: int) -> Workload:
    """The whole frame at 256 px."""
    return Workload(num_photos, WHOLE_FRAME, 256)


def five_crops(num_photos: int) -> Workload:
    """Five boxes at 224 px."""
    return Workload(num_photos, FIVE_BOXES, 224)
