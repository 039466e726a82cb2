"""The world's CSVs, column for column as they are published."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from croplake.catalog.formats import (
    BOXES_HEADER,
    FLAGS,
    PHOTOS_HEADER,
    SUBSETS,
    XCLICK_HEADER,
    Subset,
)
from croplake.miniature.photo import BoxFacts, PhotoFacts

CLASSES_FILE: Final = "oidv7-class-descriptions-boxable.csv"
HIERARCHY_FILE: Final = "bbox_labels_600_hierarchy.json"
BOXES_FILES: Final[dict[Subset, str]] = {
    "train": "oidv6-train-annotations-bbox.csv",
    "validation": "validation-annotations-bbox.csv",
    "test": "test-annotations-bbox.csv",
}
PHOTOS_FILES: Final[dict[Subset, str]] = {
    "train": "train-images-boxable-with-rotation.csv",
    "validation": "validation-images-with-rotation.csv",
    "test": "test-images-with-rotation.csv",
}
PARENT_OF: Final = {"House": "Building", "Tree": "Plant"}
"""Some boxes are also annotated with the class above, as in the real data."""

_TITLES: Final = (
    "IMG_{n}",
    "Sunday walk, part {n}",
    'The "real" one, no. {n}',
    '"Quoted" from end to "end"',
    "Äpfel & Bäume {n}",
    "夏の日 {n}",
    "🍎🌳 {n}",
    " leading and trailing ",
    "",
)
_AUTHORS: Final = ("Ann Lee", 'Bob "Shutter" Ray', "Zoë, Max & Co", "山田太郎", "")
_LICENSES: Final = (
    "https://creativecommons.org/licenses/by/2.0/",
    "https://creativecommons.org/licenses/by-sa/2.0/",
    "https://creativecommons.org/publicdomain/zero/1.0/",
)


def data_file(name: str) -> bytes:
    """A file of the real catalog that comes with the package."""
    return importlib.resources.files("croplake.miniature").joinpath("data", name).read_bytes()


def class_mids() -> dict[str, str]:
    """Class name to MID."""
    rows = csv.reader(data_file(CLASSES_FILE).decode().splitlines()[1:])
    return {name: mid for mid, name in rows}


def write_csvs(folder: Path, photos: Sequence[PhotoFacts], seed: int) -> None:
    """Writes all files of the catalog.

    Args:
        folder: where to.
        photos: of the world, in their order.
        seed: of the world.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CLASSES_FILE, HIERARCHY_FILE):
        (folder / name).write_bytes(data_file(name))
    mids = class_mids()
    for subset in SUBSETS:
        own = [photo for photo in photos if photo.subset == subset]
        rng = np.random.default_rng([seed, SUBSETS.index(subset), 1 << 20])
        _write(
            folder / PHOTOS_FILES[subset], PHOTOS_HEADER, (_photo_row(photo, rng) for photo in own)
        )
        header = (*BOXES_HEADER, *XCLICK_HEADER) if subset == "train" else BOXES_HEADER
        rows = (row for photo in own for row in _box_rows(photo, mids, rng))
        _write(folder / BOXES_FILES[subset], header, rows)


def _write(path: Path, header: Sequence[str], rows: Iterator[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _photo_row(photo: PhotoFacts, rng: np.random.Generator) -> list[str]:
    author = int(rng.integers(len(_AUTHORS)))
    number = int(rng.integers(1, 9999))
    # The real addresses are https; loopback has no certificate for other people's names.
    base = f"http://{photo.host}"
    rotation = "" if photo.rotation_deg is None else f"{photo.rotation_deg:.1f}"
    return [
        photo.image_id,
        photo.subset,
        base + photo.original_path,
        f"https://www.flickr.com/photos/person{author}/{photo.original_path.split('/')[2][:10]}",
        _LICENSES[int(rng.choice(3, p=[0.9, 0.08, 0.02]))],
        f"https://www.flickr.com/people/person{author}/",
        _AUTHORS[author],
        _TITLES[int(rng.integers(len(_TITLES)))].format(n=number),
        str(photo.original_size_bytes),
        photo.original_md5_base64,
        base + photo.thumbnail_path if photo.thumbnail_path else "",
        rotation,
    ]


def _box_rows(
    photo: PhotoFacts, mids: dict[str, str], rng: np.random.Generator
) -> Iterator[list[str]]:
    for box in photo.boxes:
        row = _box_row(photo, box, mids[box.class_name], rng)
        yield row
        draw = rng.random()
        if draw < 0.005:
            yield row
        elif box.class_name in PARENT_OF and draw < 0.3:
            yield [*row[:2], mids[PARENT_OF[box.class_name]], *row[3:]]


def _box_row(photo: PhotoFacts, box: BoxFacts, mid: str, rng: np.random.Generator) -> list[str]:
    by_hand = photo.subset != "train" or rng.random() < 0.9
    unknown = rng.random() < 0.004
    corners = [f"{corner:.6f}" for corner in (box.x_min, box.x_max, box.y_min, box.y_max)]
    flags = ["-1" if unknown else str(box.flags[name]) for name in FLAGS]
    source = "xclick" if by_hand else "activemil"
    row = [photo.image_id, source, mid, "1", *corners, *flags]
    return row + _clicks(box, rng, by_hand=by_hand) if photo.subset == "train" else row


def _clicks(box: BoxFacts, rng: np.random.Generator, *, by_hand: bool) -> list[str]:
    """The extreme points: one on each side of the box, left, top, right, bottom; −1 unknown."""
    if not by_hand:
        return ["-1"] * len(XCLICK_HEADER)
    x, y = rng.uniform(box.x_min, box.x_max, 2), rng.uniform(box.y_min, box.y_max, 2)
    xs = (box.x_min, x[0], box.x_max, x[1])
    ys = (y[0], box.y_min, y[1], box.y_max)
    return [f"{value:.6f}" for value in (*xs, *ys)]
