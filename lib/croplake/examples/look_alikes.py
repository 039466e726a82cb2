"""Which photos look alike: what executors check pair by pair, and how pairs become groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FLAT_CONTRAST: Final = 4.0
"""Below this standard deviation of its 4×4 cells' grey (of 255) a photo is flat: which cell is
brighter than its neighbour is noise then."""
MAX_ASPECT_CHANGE: Final = 0.03
"""Scaling a photo changes its width ÷ height by rounding alone."""
_GREY: Final = np.array([0.299, 0.587, 0.114])
_PAIRS: Final = pa.schema([("first_id", pa.string()), ("image_id", pa.string())])


def drop_flat(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Leaves out photos without enough contrast.

    Args:
        batches: with a column `photo_colors`; see `croplake.fetching.photo.Look`.
    """
    for batch in batches:
        contrast = (_colors(batch.column("photo_colors")) @ _GREY).std(axis=1)
        yield batch.filter(pa.array(contrast >= FLAT_CONTRAST))


def drop_unlike(
    batches: Iterable[pa.RecordBatch], *, max_color_difference: float
) -> Iterator[pa.RecordBatch]:
    """Leaves the pairs whose colours and shapes agree, too.

    Args:
        batches: pairs, with `colors` and `aspect_ratio`, and the same of the `other_…`.
        max_color_difference: greatest mean difference of their cells' colours, of 255.
    """
    for batch in batches:
        colors, others = (_colors(batch.column(f"{name}colors")) for name in ("", "other_"))
        aspects, other_aspects = (
            batch.column(f"{name}aspect_ratio").to_numpy() for name in ("", "other_")
        )
        is_like = np.abs(colors - others).mean(axis=(1, 2)) <= max_color_difference
        change = np.maximum(aspects, other_aspects) / np.minimum(aspects, other_aspects) - 1
        is_like &= change <= MAX_ASPECT_CHANGE
        yield batch.filter(pa.array(is_like))


def join_groups(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Joins pairs that share a photo.

    Returns:
        Every photo of a pair to its group's name: the least id in it.
    """
    above: dict[str, str] = {}

    def top_of(photo: str) -> str:
        top = photo
        while (higher := above.setdefault(top, top)) != top:
            top = higher
        while photo != top:
            above[photo], photo = top, above[photo]
        return top

    for one, other in pairs:
        low, high = sorted((top_of(one), top_of(other)))
        above[high] = low
    return {photo: top_of(photo) for photo in list(above)}


def join_pairs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Leaves as few pairs as join the same photos.

    Args:
        batches: pairs, `first_id` and `image_id`.

    Returns:
        Pairs: each photo that is not its group's first, with that one.
    """
    groups = join_groups(_pairs_of(batches))
    others = [photo for photo, first in groups.items() if photo != first]
    firsts = [groups[photo] for photo in others]
    yield pa.RecordBatch.from_pydict({"first_id": firsts, "image_id": others}, schema=_PAIRS)


def _pairs_of(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, str]]:
    for batch in batches:
        firsts, others = (batch.column(name).to_pylist() for name in _PAIRS.names)
        yield from zip(firsts, others, strict=True)


def _colors(column: pa.Array) -> NDArray[np.float64]:
    """The cells' colours of each photo, shape (num_photos, 16, 3)."""
    cells = np.frombuffer(b"".join(column.to_pylist()), dtype=np.uint8)
    return cells.reshape(len(column), 16, 3).astype(np.float64)
