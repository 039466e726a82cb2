"""What all parts of the settings are made of: their common model and the types of their fields."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
CategoryName = Annotated[
    str, Field(pattern=r"^[^\s/\\](?:[^/\\\x00-\x1f]*[^\s/\\])?$", max_length=100)
]
Pattern = Annotated[str, Field(min_length=1)]


def _check_address(place: str) -> str:
    """Refuses what begins as an http(s) address and is none; others are looked at when asked."""
    if place.lower().startswith(("http:", "https:")):
        try:
            parts = urlsplit(place)
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"{place} is no address ({error})") from None
        if not parts.hostname:
            raise ValueError(f"{place} is no address (it names no host)")
    return place


Place = Annotated[str, AfterValidator(_check_address)]
"""A path or an address."""


class ConfModel(BaseModel):
    """What every part of the settings is: frozen, strict about keys, documented by field."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )
