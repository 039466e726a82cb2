"""What a TFLite file says of itself: TFLite's own metadata, and files in a zip at its end.

Source: the metadata schema of tensorflow/tflite-support, metadata_schema.fbs, version 1.1.0. Task
libraries (MediaPipe's) find the labels, and how a picture has to be brought, by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import flatbuffers  # type: ignore[import-untyped]
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from croplake.model_export.formats import LABELS_TEXT

_NAME: Final = b"TFLITE_METADATA"
"""By this name of TFLite's a model's metadata lists the buffer with the rest."""
_IDENTIFIER: Final = b"M001"
_IMAGE_PROPERTIES, _NORMALIZATION, _RGB, _AXIS_LABELS = 2, 1, 1, 2
"""Members of the schema's unions and enumerations."""


def put_metadata(path: Path, *, name: str, description: str, licence: str, side_px: int) -> None:
    """Writes the metadata into a model of one uint8 picture in and one axis of probabilities out.

    Args:
        path: of the model; nothing may be behind its flatbuffer yet.
        name: of the model.
        description: for people.
        licence: for people.
        side_px: side of the square it takes.
    """
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(path.read_bytes()))
    buffer = schema.BufferT()
    buffer.data = _metadata(name, description, licence, side_px)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _metadata(name: str, description: str, licence: str, side_px: int) -> bytes:
    table = _Tables()
    size = table.of((0, "Uint32", side_px), (1, "Uint32", side_px))
    properties = table.of((0, "Int8", _RGB), (1, "UOffsetTRelative", size))
    content = table.of((0, "Uint8", _IMAGE_PROPERTIES), (1, "UOffsetTRelative", properties))
    # The scaling is inside: what a library would do before is to subtract 0 and divide by 1.
    nothing = table.of(
        (0, "UOffsetTRelative", table.floats([0.0])), (1, "UOffsetTRelative", table.floats([1.0]))
    )
    unit = table.of((0, "Uint8", _NORMALIZATION), (1, "UOffsetTRelative", nothing))
    image = table.of(
        (0, "UOffsetTRelative", table.text("image")),
        (1, "UOffsetTRelative", table.text("RGB, 0 to 255")),
        (3, "UOffsetTRelative", content),
        (4, "UOffsetTRelative", table.list_of([unit])),
    )
    labels = table.of(
        (0, "UOffsetTRelative", table.text(LABELS_TEXT)),
        (1, "UOffsetTRelative", table.text("the category of each probability")),
        (2, "Int8", _AXIS_LABELS),
    )
    probabilities = table.of(
        (0, "UOffsetTRelative", table.text("probability")),
        (6, "UOffsetTRelative", table.list_of([labels])),
    )
    subgraph = table.of(
        (2, "UOffsetTRelative", table.list_of([image])),
        (3, "UOffsetTRelative", table.list_of([probabilities])),
    )
    root = table.of(
        (0, "UOffsetTRelative", table.text(name)),
        (1, "UOffsetTRelative", table.text(description)),
        (3, "UOffsetTRelative", table.list_of([subgraph])),
        (5, "UOffsetTRelative", table.text(licence)),
        (7, "UOffsetTRelative", table.text("1.0.0")),
    )
    return table.finish(root)


class _Tables:
    """Flatbuffer tables by the numbers of their fields; every value is built before its table."""

    def __init__(self) -> None:
        self._builder: Any = flatbuffers.Builder(1024)

    def of(self, *fields: tuple[int, str, int]) -> int:
        """A table: number, kind and value of each field."""
        self._builder.StartObject(max(number for number, _, _ in fields) + 1)
        for number, kind, value in fields:
            getattr(self._builder, f"Prepend{kind}Slot")(number, value, 0)
        return int(self._builder.EndObject())

    def text(self, text: str) -> int:
        return int(self._builder.CreateString(text))

    def list_of(self, tables: Sequence[int]) -> int:
        self._builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self._builder.PrependUOffsetTRelative(table)
        return int(self._builder.EndVector())

    def floats(self, values: Sequence[float]) -> int:
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return int(self._builder.EndVector())

    def finish(self, root: int) -> bytes:
        self._builder.Finish(root, file_identifier=_IDENTIFIER)
        return bytes(self._builder.Output())
