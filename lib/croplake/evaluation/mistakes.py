"""How far off a mistake is: steps in the class hierarchy from the true to the guessed category."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from croplake.catalog.classes import ClassEntry
from croplake.evaluation.answers import Counts

NO_PATH: Final = -1


@dataclass(frozen=True)
class MistakeDistances:
    """Mistakes by their distance.

    Attributes:
        counts: edges between the true and the guessed category to mistakes, the least first.
        num_without_path: mistakes between categories that no path joins.
    """

    counts: Mapping[int, int] = field(default_factory=dict)
    num_without_path: int = 0

    @property
    def mean(self) -> float:
        """Mean distance of the mistakes that have one; NaN where none has."""
        num = sum(self.counts.values())
        return sum(steps * n for steps, n in self.counts.items()) / num if num else float("nan")


def category_distances(
    classes: Sequence[ClassEntry], mids_of: Mapping[str, Sequence[str]], categories: Sequence[str]
) -> Counts:
    """Edges of the shortest path between any two categories.

    An edge joins a class and a parent of it, and is walked both ways; the root, which is a parent
    that no list has, is a place like the others. Between categories of several classes it is the
    least of their classes' distances.

    Args:
        classes: the catalog's; `Part` edges are not among their parents.
        mids_of: category to its classes.
        categories: C names.

    Returns:
        int64, shape (C, C), symmetric; `NO_PATH` where there is none, as to a category whose
        classes the catalog does not have.
    """
    neighbours: dict[str, set[str]] = {}
    for entry in classes:
        neighbours.setdefault(entry.mid, set())
        for parent in entry.parent_mids:
            neighbours[entry.mid].add(parent)
            neighbours.setdefault(parent, set()).add(entry.mid)
    distances = np.full((len(categories), len(categories)), NO_PATH, dtype=np.int64)
    for row, category in enumerate(categories):
        steps = _steps_from(
            [mid for mid in mids_of.get(category, ()) if mid in neighbours], neighbours
        )
        for column, other in enumerate(categories):
            reached = [steps[mid] for mid in mids_of.get(other, ()) if mid in steps]
            if reached:
                distances[row, column] = min(reached)
    return distances


def _steps_from(mids: Sequence[str], neighbours: Mapping[str, set[str]]) -> dict[str, int]:
    steps = dict.fromkeys(mids, 0)
    waiting = deque(mids)
    while waiting:
        here = waiting.popleft()
        for there in neighbours[here]:
            if there not in steps:
                steps[there] = steps[here] + 1
                waiting.append(there)
    return steps


def measure_mistakes(confusion: Counts, distances: Counts) -> MistakeDistances:
    """Counts mistakes by their distance.

    Args:
        confusion: int64, shape (C, C), row = true category, column = best guess.
        distances: of `category_distances`, shape (C, C).
    """
    is_mistake = (confusion > 0) & ~np.eye(len(confusion), dtype=bool)
    steps, places = np.unique(distances[is_mistake], return_inverse=True)
    sums = np.bincount(places, confusion[is_mistake], minlength=len(steps))
    counts = dict(zip(steps.tolist(), sums.astype(int).tolist(), strict=True))
    without_path = counts.pop(NO_PATH, 0)
    return MistakeDistances(counts, without_path)
