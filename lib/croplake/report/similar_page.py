"""The page of the crops that look most like a photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from croplake.report.gallery import GalleryCrop, data_address
from croplake.report.page import render


@dataclass(frozen=True)
class FoundCrop:
    """A crop and how near it is.

    Attributes:
        crop: as a small picture, with what its licence asks for.
        distance: 1 - cosine.
    """

    crop: GalleryCrop
    distance: float


@dataclass(frozen=True)
class AskedPhoto:
    """What was asked for.

    Attributes:
        name: path, address or box_id, as it was given.
        jpeg: a small picture of it.
        width_px: of the small picture.
        height_px: of the small picture.
        crop: where it is a crop of the lake, with what its licence asks for.
    """

    name: str
    jpeg: bytes
    width_px: int
    height_px: int
    crop: GalleryCrop | None = None

    @property
    def address(self) -> str:
        """The picture as a `data:` address."""
        return data_address(self.jpeg)

    @property
    def alt(self) -> str:
        """What a screen reader says in the picture's place."""
        return f"The photo that was asked for, {self.name}"


@dataclass(frozen=True)
class SimilarFigures:
    """All that the page shows.

    Attributes:
        asked: what was asked for.
        found: the nearest first.
        network: that made the vectors.
        num_vectors: among how many was looked.
        is_exact: whether each was compared; else an index named the nearest.
        dataset: whose examples alone were looked at; None is the whole lake.
        versions: of the tables.
        made_at: when.
    """

    asked: AskedPhoto
    found: Sequence[FoundCrop]
    network: str
    num_vectors: int
    is_exact: bool
    dataset: str | None
    versions: Mapping[str, int]
    made_at: datetime


def similar_page(figures: SimilarFigures) -> str:
    """Lays out what was found as one HTML page."""
    return render("similar.html", figures=figures)
