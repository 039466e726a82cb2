"""The nearest of many vectors by the angle between them: exactly, in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from croplake import tables as t
from croplake.inference.embedding import Vectors


@dataclass(frozen=True)
class Neighbour:
    """A crop and how near it is.

    Attributes:
        box_id: of the crop.
        image_id: of its photo.
        recipe_id: it was cut by.
        distance: 1 - cosine of the angle between the vectors: 0 is the same direction, 1 a right
            angle, 2 the opposite one.
    """

    box_id: str
    image_id: str
    recipe_id: str
    distance: float


class Search(Protocol):
    """What names the nearest crops."""

    def nearest(self, query: Vectors, count: int) -> list[Neighbour]:
        """The nearest crops.

        Args:
            query: float32, shape (D,).
            count: how many; there may be fewer.

        Returns:
            Crops, the nearest first; fewer than `count` mean that there are no more.
        """


def unit(vectors: Vectors) -> tuple[Vectors, Vectors]:
    """Vectors of length 1.

    Args:
        vectors: shape (N, D).

    Returns:
        Shape (N, D); where a vector is zero or not finite it is zero. And the lengths that they
        had, shape (N,), NaN where not finite.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    is_whole = np.isfinite(lengths) & (lengths > 0)
    scaled = np.zeros_like(vectors)
    np.divide(vectors, lengths[:, None], out=scaled, where=is_whole[:, None])
    return scaled, np.where(np.isfinite(lengths), lengths, np.nan)


@dataclass(frozen=True)
class ExactSearch:
    """Compares with every vector; holds one block of them.

    Attributes:
        blocks: gives all vectors anew, with the columns of `vectors.KEYS`.
    """

    blocks: Callable[[], Iterable[tuple[pa.RecordBatch, Vectors]]]

    def nearest(self, query: Vectors, count: int) -> list[Neighbour]:
        """See `Search`."""
        direction = unit(query[None])[0][0]
        best: list[Neighbour] = []
        for keys, vectors in self.blocks():
            scaled, lengths = unit(vectors)
            distances = (1 - scaled @ direction).astype(np.float64)
            distances[np.isnan(lengths)] = np.inf  # nobody knows where it points
            if len(best) == count:
                distances[distances > best[-1].distance] = np.inf
            rows = np.argsort(distances, kind="stable")[:count]
            rows = rows[np.isfinite(distances[rows])]
            best += neighbours_of(keys.take(pa.array(rows)), distances[rows])
            best = sorted(best, key=lambda found: (found.distance, found.box_id))[:count]
        return best


def neighbours_of(keys: pa.RecordBatch | pa.Table, distances: Iterable[float]) -> list[Neighbour]:
    """Rows of keys with their distances."""
    return [
        Neighbour(row[t.BOX_ID], row[t.IMAGE_ID], row[t.RECIPE_ID], max(0.0, float(distance)))
        for row, distance in zip(keys.to_pylist(), distances, strict=True)
    ]


def find_nearest(search: Search, query: Vectors, count: int) -> list[Neighbour]:
    """The nearest crops, each box once; asks for more until there are enough.

    A box is there as often as there are recipes that it was cut by, so that is not far to go.

    Args:
        search: names the nearest ones.
        query: float32, shape (D,).
        count: how many.

    Returns:
        At most `count` crops, the nearest first.
    """
    asked = count + 16
    while True:
        found = search.nearest(query, asked)
        kept = list(_first_of_each(found))
        if len(kept) >= count or len(found) < asked:
            return kept[:count]
        asked *= 2


def _first_of_each(found: Iterable[Neighbour]) -> Iterator[Neighbour]:
    seen: set[str] = set()
    for neighbour in found:
        if neighbour.box_id not in seen:
            seen.add(neighbour.box_id)
            yield neighbour
