"""CSVs of the published size and distributions, drawn column by column: for benchmarks.

Figures are those of Open Images V7: rows of each file, boxes a photo, shares of the flags, unknown
flags, turned photos. No photo exists behind the rows.

`python -m croplake.miniature.full_size FOLDER [TIMES]` writes them, about 3 GB at once the size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from croplake.catalog.formats import (
    BOXES_HEADER,
    FLAGS,
    PHOTOS_HEADER,
    XCLICK_HEADER,
    Subset,
)
from croplake.miniature.csvs import (
    BOXES_FILES,
    CLASSES_FILE,
    HIERARCHY_FILE,
    PHOTOS_FILES,
    class_mids,
    data_file,
)

NUM_BOXES: Final[dict[Subset, int]] = {"train": 14_610_229, "validation": 303_980, "test": 937_327}
NUM_PHOTOS: Final[dict[Subset, int]] = {"train": 1_743_042, "validation": 41_620, "test": 125_436}
FLAG_SHARES: Final = {
    "IsOccluded": 0.66,
    "IsTruncated": 0.25,
    "IsGroupOf": 0.06,
    "IsDepiction": 0.055,
    "IsInside": 0.0024,
}
NUM_UNKNOWN: Final = 21_871
"""Boxes whose flags are all -1, of all subsets together."""
ROTATED_SHARE: Final = 0.026
NUM_CLASSES: Final = 600

_ROWS: Final = 500_000
_PLACES: Final = 1_000_000
"""Corners have six digits."""
_CLICKED_SHARE: Final = 0.9
"""Boxes drawn by extreme clicks; the others are `activemil`, their clicks -1."""
_NO_THUMBNAIL_SHARE: Final = 0.025
_TITLES: Final = ("IMG_{n}", "Sunday walk, part {n}", 'The "real" one, no. {n}', "Äpfel {n}", "")


def write_full_size(folder: Path, *, times: float = 1.0, seed: int = 17) -> None:
    """Writes a catalog of so many times the published size.

    Args:
        folder: where to; files are called as they are published.
        times: the size.
        seed: of everything drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CLASSES_FILE, HIERARCHY_FILE):
        (folder / name).write_bytes(data_file(name))
    rng = np.random.default_rng(seed)
    mids = pa.array(sorted(class_mids().values())[:NUM_CLASSES])
    # A long tail: the first class has about a tenth of all boxes, the last some hundred.
    shares = 1 / (np.arange(NUM_CLASSES) + 6.0) ** 1.6
    shares = rng.permutation(shares / shares.sum())
    num_photos_of = {name: max(1, round(count * times)) for name, count in NUM_PHOTOS.items()}
    num_boxes_of = {
        name: max(num_photos_of[name], round(count * times)) for name, count in NUM_BOXES.items()
    }
    all_unknown = np.zeros(sum(num_boxes_of.values()), dtype=bool)
    num_unknown = round(NUM_UNKNOWN * times)
    all_unknown[rng.choice(len(all_unknown), num_unknown, replace=False, shuffle=False)] = True
    first_photo, first_box = 0, 0
    for subset, num_boxes in num_boxes_of.items():
        num_photos = num_photos_of[subset]
        ids = np.sort(_image_ids(np.arange(first_photo, first_photo + num_photos, dtype=np.uint64)))
        first_photo += num_photos
        _write_photos(folder / PHOTOS_FILES[subset], subset, ids, rng)
        of_photo = np.repeat(np.arange(num_photos), _boxes_a_photo(num_photos, num_boxes, rng))
        unknown = all_unknown[first_box : first_box + num_boxes]
        first_box += num_boxes
        with_clicks = subset == "train"
        rows = _BoxRows(ids, of_photo, mids, shares, unknown, with_clicks=with_clicks, rng=rng)
        _write_parts(folder / BOXES_FILES[subset], rows.header, num_boxes, rows, quoting="none")


def _image_ids(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Distinct 64-bit numbers that look random."""
    with np.errstate(over="ignore"):
        return numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x1234567)


def _hex(numbers: NDArray[np.uint64]) -> pa.Array:
    """16 hexadecimal digits of each number."""
    digits = np.array([f"{byte:02x}".encode() for byte in range(256)], dtype="S2")
    text = digits[numbers.astype(">u8").view(np.uint8)]
    return pa.array(text.view("S16").astype("U16"))


def _boxes_a_photo(num_photos: int, num_boxes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At least one each; the rest spread unevenly, some photos having dozens."""
    weights = rng.gamma(1.2, size=num_photos)
    return 1 + rng.multinomial(num_boxes - num_photos, weights / weights.sum())


class _BoxRows:
    """Draws rows of a boxes CSV, some at a time."""

    def __init__(
        self,
        image_ids: NDArray[np.uint64],
        of_photo: NDArray[np.int64],
        mids: pa.Array,
        shares: NDArray[np.float64],
        unknown: NDArray[np.bool_],
        *,
        with_clicks: bool,
        rng: np.random.Generator,
    ) -> None:
        self._image_ids, self._of_photo = image_ids, of_photo
        self._mids, self._shares, self._unknown = mids, shares, unknown
        self._with_clicks, self._rng = with_clicks, rng
        self._six_digits = pa.array(
            [f"{place / _PLACES:.6f}" for place in range(-_PLACES, _PLACES + 1)]
        )
        self.header = (*BOXES_HEADER, *(XCLICK_HEADER if with_clicks else ()))

    def __call__(self, start: int, stop: int) -> list[pa.Array]:
        rng, num_rows = self._rng, stop - start
        classes = rng.choice(len(self._shares), size=num_rows, p=self._shares)
        # Two draws a side, in order; sides are mostly well below the photo's.
        middle, half = rng.random((2, num_rows)), rng.beta(1.2, 2.5, size=(2, num_rows)) / 2
        low = np.clip(middle - half, 0, 1 - 2 / _PLACES)
        high = np.clip(middle + half, low + 1 / _PLACES, 1)
        clicked = rng.random(num_rows) < _CLICKED_SHARE
        unknown = self._unknown[start:stop]
        flags = [
            np.where(unknown, -1, rng.random(num_rows) < FLAG_SHARES[name]).astype(np.int8)
            for name in FLAGS
        ]
        columns = [
            _hex(self._image_ids[self._of_photo[start:stop]]),
            pa.array(np.where(clicked, "xclick", "activemil")),
            self._mids.take(pa.array(classes)),
            pa.array(np.ones(num_rows, dtype=np.int8)),
            *(self._decimals(side) for side in (low[0], high[0], low[1], high[1])),
            *(pa.array(flag) for flag in flags),
        ]
        if self._with_clicks:
            within = low[:, None] + (high - low)[:, None] * rng.random((2, 4, num_rows))
            places = (at for side in within for at in side)
            columns += [self._decimals(np.where(clicked, at, -1)) for at in places]
        return columns

    def _decimals(self, values: NDArray[np.float64]) -> pa.Array:
        """Six digits after the point, as published."""
        places = np.round(values * _PLACES).astype(np.int64) + _PLACES
        return self._six_digits.take(pa.array(places))


def _write_photos(
    path: Path, subset: Subset, image_ids: NDArray[np.uint64], rng: np.random.Generator
) -> None:
    def rows(start: int, stop: int) -> list[pa.Array]:
        ids = _hex(image_ids[start:stop]).to_pylist()
        num_rows = len(ids)
        sizes = rng.integers(200_000, 5_000_000, size=num_rows)
        rotations = np.where(
            rng.random(num_rows) < ROTATED_SHARE, rng.choice([90, 180, 270], num_rows), 0
        )
        has_thumbnail = rng.random(num_rows) >= _NO_THUMBNAIL_SHARE
        titles = rng.integers(0, len(_TITLES), size=num_rows)
        farms = rng.integers(1, 9, size=num_rows)
        places = [
            f"farm{farm}.staticflickr.com/{n % 9000}/{i}"
            for n, (farm, i) in enumerate(zip(farms, ids, strict=True))
        ]
        columns: list[list[str | None]] = [
            ids,
            [subset] * num_rows,
            [f"https://{place}_o.jpg" for place in places],
            [f"https://www.flickr.com/photos/p{i[:6]}/{i[6:]}" for i in ids],
            ["https://creativecommons.org/licenses/by/2.0/"] * num_rows,
            [f"https://www.flickr.com/people/p{i[:6]}/" for i in ids],
            [f"Person {i[:4]}" for i in ids],
            [_TITLES[title].format(n=n) for n, title in enumerate(titles)],
            [str(size) for size in sizes],
            [f"{i}{i[:6]}==" for i in ids],
            [
                f"https://{p}_z.jpg" if has else None
                for p, has in zip(places, has_thumbnail, strict=True)
            ],
            [f"{rotation:.1f}" for rotation in rotations],
        ]
        return [pa.array(column, pa.string()) for column in columns]

    _write_parts(path, PHOTOS_HEADER, len(image_ids), rows, quoting="needed")


def _write_parts(
    path: Path,
    header: tuple[str, ...],
    num_rows: int,
    rows: Callable[[int, int], list[pa.Array]],
    *,
    quoting: str,
) -> None:
    """Writes a CSV some hundred thousand rows at a time."""
    options = pacsv.WriteOptions(include_header=False, quoting_style=quoting)
    with path.open("wb") as file:
        file.write((",".join(header) + "\n").encode())
        for start in range(0, num_rows, _ROWS):
            part = pa.table(rows(start, min(num_rows, start + _ROWS)), names=list(header))
            pacsv.write_csv(part, file, options)


if __name__ == "__main__":
    write_full_size(Path(sys.argv[1]), times=float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
