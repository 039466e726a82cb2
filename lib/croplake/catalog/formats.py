"""The published CSV formats: their headers, column for column.

Source: Open Images V7 download page, "Data formats"; the files themselves.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Subset = Literal["train", "validation", "test"]
SUBSETS: Final[tuple[Subset, ...]] = get_args(Subset)

CLASSES_HEADER: Final = ("LabelName", "DisplayName")
"""v7 files carry this header, v5 files start with the first class."""

BOXES_HEADER: Final = (
    "ImageID",
    "Source",
    "LabelName",
    "Confidence",
    "XMin",
    "XMax",
    "YMin",
    "YMax",
    "IsOccluded",
    "IsTruncated",
    "IsGroupOf",
    "IsDepiction",
    "IsInside",
)
XCLICK_HEADER: Final = (
    "XClick1X",
    "XClick2X",
    "XClick3X",
    "XClick4X",
    "XClick1Y",
    "XClick2Y",
    "XClick3Y",
    "XClick4Y",
)
"""The four extreme points; appended to `BOXES_HEADER` in the v6 train file only."""

PHOTOS_HEADER: Final = (
    "ImageID",
    "Subset",
    "OriginalURL",
    "OriginalLandingURL",
    "License",
    "AuthorProfileURL",
    "Author",
    "Title",
    "OriginalSize",
    "OriginalMD5",
    "Thumbnail300KURL",
    "Rotation",
)
FLAGS: Final = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
"""Each 1, 0 or -1 (unknown)."""
