"""What the page about a classification says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from croplake.report.credit import licence_name, readable
from croplake.report.gallery import data_address


@dataclass(frozen=True)
class Credit:
    """What the lake's catalog says of a photo.

    Attributes:
        image_id: of Open Images.
        license: the licence's address.
        author: of the photo.
        author_url: the author's page.
        title: of the photo.
        landing_url: the photo's page.
    """

    image_id: str
    license: str | None
    author: str | None
    author_url: str | None
    title: str | None
    landing_url: str | None


@dataclass(frozen=True)
class ShownPhoto:
    """A classified photo as a small picture.

    Attributes:
        path: its path, address or name.
        guesses: categories and their probabilities, best first; at least one.
        jpeg: the small picture.
        width_px: of the small picture.
        height_px: of the small picture.
        credit: None where the photo is none of the lake's catalog.
    """

    path: str
    guesses: Sequence[tuple[str, float]]
    jpeg: bytes
    width_px: int
    height_px: int
    credit: Credit | None = None

    @cached_property
    def address(self) -> str:
        """The picture as a `data:` address."""
        return data_address(self.jpeg)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1] or self.path

    @property
    def alt(self) -> str:
        """What a screen reader says in the picture's place."""
        category, probability = self.guesses[0]
        said = f"{self.name}: {category}, probability {probability:.2f}"
        if self.credit is None:
            return f"{said}, licence and author not known"
        author = readable(self.credit.author) or "an unknown author"
        return f"{said}, {licence_name(self.credit.license)}, by {author}"


@dataclass(frozen=True)
class Failure:
    """A photo without a category.

    Attributes:
        path: its path, address or name.
        detail: what was found.
    """

    path: str
    detail: str | None


@dataclass(frozen=True)
class PredictionFigures:
    """All that the page says.

    Attributes:
        run_id: of the run.
        model_id: of the model.
        made_at: when the photos had been classified, UTC.
        min_probability: a best guess below it is unsure.
        statuses: photos by status.
        categories: decided photos by category.
        failures: some photos of each status that is a failure.
        galleries: decided photos to show, by category.
        unsure: unsure ones to show.
        version: of `predictions`.
        csv: where the same stands as CSV.
        sorted_into: the folder that photos were copied into; None where they were not.
    """

    run_id: str
    model_id: str
    made_at: datetime
    min_probability: float
    statuses: Mapping[str, int]
    categories: Mapping[str, int]
    failures: Mapping[str, Sequence[Failure]] = field(default_factory=dict)
    galleries: Mapping[str, Sequence[ShownPhoto]] = field(default_factory=dict)
    unsure: Sequence[ShownPhoto] = ()
    version: int = 0
    csv: str = ""
    sorted_into: str | None = None
