"""The files a model is exported as, and what is asked for on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

Format = Literal["keras", "h5", "savedmodel", "tflite"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
PLACES: Final[dict[Format, str]] = {
    "keras": "model.keras",
    "h5": "model.h5",
    "savedmodel": "savedmodel",
    "tflite": "model.tflite",
}
"""Where each lies in the export; `savedmodel` is a folder."""
LABELS: Final = "labels.json"
CARD: Final = "croplake.json"
LABELS_TEXT: Final = "labels.txt"
"""The labels as readers of TFLite's metadata want them, a line each; newlines are blanks there."""


@dataclass(frozen=True)
class Request:
    """What is to be exported.

    Attributes:
        model_id: or `latest`.
        formats: those asked for; none is all that the model can have.
        into: path or address of the folder.
    """

    model_id: str
    formats: tuple[Format, ...]
    into: str


def parse_formats(texts: Sequence[str]) -> tuple[Format, ...]:
    """Names of formats, separated by commas or given one by one, each once.

    Raises:
        ValueError: one is none.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    if unknown := [name for name in names if name not in FORMATS]:
        raise ValueError(f"{unknown[0]!r} is no format; there are {', '.join(FORMATS)}")
    return tuple(format for format in FORMATS if format in names)
