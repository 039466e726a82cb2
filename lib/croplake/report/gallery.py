"""Crops on a page: what is shown of each, and how many fit."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Final, Protocol, TypeVar

from croplake.report.credit import licence_name, readable

_DATA: Final = "data:image/jpeg;base64,"


class _Pictured(Protocol):
    """What has a place in a gallery."""

    @property
    def address(self) -> str | None:
        """The picture as a `data:` address."""


Picture = TypeVar("Picture", bound=_Pictured)


@dataclass(frozen=True)
class GalleryCrop:
    """A crop as a small picture, with what its licence asks for.

    Attributes:
        category: of its box.
        box_id: of its box.
        image_id: of its photo.
        jpeg: the small picture; None where the crop could not be decoded.
        width_px: of the small picture.
        height_px: of the small picture.
        license: the licence's address.
        author: of the photo.
        author_url: the author's page.
        title: of the photo.
        landing_url: the photo's page.
        note: what is said of the crop beside its category.
    """

    category: str
    box_id: str
    image_id: str
    jpeg: bytes | None
    width_px: int | None
    height_px: int | None
    license: str | None
    author: str | None
    author_url: str | None
    title: str | None
    landing_url: str | None
    note: str | None = None

    @cached_property
    def address(self) -> str | None:
        """The picture as a `data:` address."""
        if self.jpeg is None:
            return None
        return data_address(self.jpeg)

    @property
    def alt(self) -> str:
        """What a screen reader says in the picture's place."""
        licence = f"licence {licence_name(self.license)}" if self.license else "no licence given"
        name = readable(self.author)
        author = f"by {name}" if name else "author not given"
        what = f"{self.category}, {self.note}" if self.note else self.category
        return f"{what}, crop of photo {self.image_id}, {licence}, {author}"


def data_address(jpeg: bytes) -> str:
    """A picture as a `data:` address."""
    return _DATA + base64.b64encode(jpeg).decode()


def address_bytes(jpeg_bytes: int) -> int:
    """The length of a picture's `data:` address."""
    return len(_DATA) + -(-jpeg_bytes // 3) * 4


def fit_galleries(
    galleries: Mapping[str, Sequence[Picture]], max_bytes: int
) -> dict[str, list[Picture]]:
    """Bounds what all galleries together add to a page; each gets as many, to within one.

    Args:
        galleries: name to its pictures, the first ones first.
        max_bytes: of all pictures, as they are written into the page.

    Returns:
        The pictures that fit, by gallery; each gallery is there.
    """
    fitted: dict[str, list[Picture]] = {name: [] for name in galleries}
    left = max_bytes
    for name, picture in _in_turns(galleries):
        left -= len(picture.address or "")
        if left < 0:
            break
        fitted[name].append(picture)
    return fitted


def _in_turns(galleries: Mapping[str, Sequence[Picture]]) -> Iterable[tuple[str, Picture]]:
    """The first picture of each, then the second of each, and so on."""
    for turn in zip_longest(*galleries.values()):
        yield from ((n, one) for n, one in zip(galleries, turn, strict=True) if one is not None)
