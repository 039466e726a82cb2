"""What the page about a dataset says, in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from croplake.report.charts import Bins
from croplake.report.gallery import GalleryCrop

NO_SOURCE: Final = "none"
"""The source of a failure for which nobody was asked."""

_PX: Final = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

SIDES_FRAC: Final = Bins(
    edges=tuple(step / 20 for step in range(1, 20)),
    texts=tuple(f"{step / 20:.2f}" for step in range(1, 20)),
    ticks=(4, 9, 14),
)
"""Shorter side of a box, as a fraction of the photo's."""
SIDES_PX: Final = Bins(
    edges=_PX, texts=tuple(str(side) for side in _PX), ticks=(0, 2, 4, 6, 8, 10, 12)
)
"""Shorter side of a box in the photo that it was cut from."""
ASPECT_RATIOS: Final = Bins(
    edges=(1 / 4, 1 / 3, 1 / 2, 2 / 3, 4 / 5, 5 / 4, 3 / 2, 2.0, 3.0, 4.0),
    texts=("1:4", "1:3", "1:2", "2:3", "4:5", "5:4", "3:2", "2:1", "3:1", "4:1"),
    ticks=(0, 2, 4, 5, 7, 9),
)
"""Width ÷ height."""


@dataclass(frozen=True)
class CategoryFigures:
    """Boxes of a category.

    Attributes:
        name: of the category.
        num_kept: boxes by subset.
        num_rejected: boxes a rule of select_boxes turned down.
        num_crops: of its kept boxes.
        num_examples: in the splits.
    """

    name: str
    num_kept: Mapping[str, int] = field(default_factory=dict)
    num_rejected: int = 0
    num_crops: int = 0
    num_examples: int = 0

    @property
    def num_all_kept(self) -> int:
        """Kept boxes of all subsets."""
        return sum(self.num_kept.values())


@dataclass(frozen=True)
class FetchFigures:
    """What became of kept boxes under one recipe.

    Attributes:
        num_crops: boxes with a crop.
        failures: boxes without one, by source and status of the last try.
        sides_px: crops in each bin of `SIDES_PX`.
        aspect_ratios: crops in each bin of `ASPECT_RATIOS`.
    """

    num_crops: int
    failures: Mapping[tuple[str, str], int]
    sides_px: Sequence[int]
    aspect_ratios: Sequence[int]

    @property
    def num_failed(self) -> int:
        """Boxes that were tried and have no crop."""
        return sum(self.failures.values())


@dataclass(frozen=True)
class Author:
    """An author and the photos that are theirs."""

    name: str | None
    address: str | None
    num_photos: int


@dataclass(frozen=True)
class CreditFigures:
    """Whose the photos are.

    Attributes:
        licences: address to photos, the most first; None is where the catalog gives none.
        num_other_licences: photos under any licence that is not among these.
        num_authors: distinct ones.
        authors: those with the most photos.
    """

    licences: Mapping[str | None, int]
    num_other_licences: int
    num_authors: int
    authors: Sequence[Author]


@dataclass(frozen=True)
class DuplicateGroup:
    """Photos that are nearly the same.

    Attributes:
        num_photos: in the group.
        crops: of some of them.
    """

    num_photos: int
    crops: Sequence[GalleryCrop]


@dataclass(frozen=True)
class DuplicateFigures:
    """Near-duplicates that were found.

    Attributes:
        num_groups: of at least two photos.
        num_photos: in them.
        largest: the largest groups.
        uncompared: what the cap on bucket sizes left out, in words, to how many.
    """

    num_groups: int
    num_photos: int
    largest: Sequence[DuplicateGroup]
    uncompared: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetFigures:
    """All that the page says; a part that has no data yet is None.

    Attributes:
        dataset: its name.
        made_at: when the tables were looked at, UTC.
        versions: of every table that was read.
        recipe: of the crops, in words.
        categories: by name.
        num_photos: with a kept box.
        box_rejects: boxes by the reason of select_boxes.
        sides_frac: kept boxes in each bin of `SIDES_FRAC`.
        flags: kept boxes by flag and its value (1, 0, -1).
        fetched: what fetching left; None before it.
        examples: by split; None before build_examples.
        example_rejects: examples by the reason of build_examples.
        credit: None where the lake has no catalog.
        duplicates: None where they were not looked for.
        galleries: crops to show, by category.
    """

    dataset: str
    made_at: datetime
    versions: Mapping[str, int]
    recipe: str
    categories: Sequence[CategoryFigures]
    num_photos: int
    box_rejects: Mapping[str, int]
    sides_frac: Sequence[int]
    flags: Mapping[tuple[str, int], int]
    fetched: FetchFigures | None = None
    examples: Mapping[str, int] | None = None
    example_rejects: Mapping[str, int] = field(default_factory=dict)
    credit: CreditFigures | None = None
    duplicates: DuplicateFigures | None = None
    galleries: Mapping[str, Sequence[GalleryCrop]] = field(default_factory=dict)

    @property
    def num_kept(self) -> int:
        """Boxes that select_boxes kept."""
        return sum(category.num_all_kept for category in self.categories)

    @property
    def num_rejected(self) -> int:
        """Boxes that it turned down."""
        return sum(self.box_rejects.values())

    @property
    def num_untried(self) -> int:
        """Kept boxes that nobody has tried to fetch yet."""
        fetched = self.fetched
        return self.num_kept - (fetched.num_crops + fetched.num_failed if fetched else 0)
