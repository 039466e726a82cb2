"""The process that writes a model's files: `python -m croplake.model_export.process`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from croplake.conf.models import Quantization
from croplake.errors import IncompleteError
from croplake.model_export.formats import PLACES, Format
from croplake.own_process import answer_one

_NUM_PICTURES: Final = 8
"""Compared of each format; every format reads them as the network's squares."""
_GREATEST_DIFFERENCE: Final = 1e-3
"""Of a probability; more is another model. Quantized weights are another model, and meant to be."""
_IN_16_BITS: Final = 2e-2
"""The same of a model that computes in 16 bits: these hold three digits."""
_REASON_CHARS: Final = 200


class ExportJob(BaseModel):
    """What the process is told.

    Attributes:
        file: path of the model's `.keras` file.
        name: of that file, for messages.
        labels: categories by their index.
        card: what is told of the model inside the files.
        formats: to write.
        quantization: of a `.tflite` file.
        folder: path of the folder to write them into.
    """

    file: str
    name: str
    labels: tuple[str, ...]
    card: dict[str, Any]
    formats: tuple[Format, ...]
    quantization: Quantization
    folder: str


class ExportAnswer(BaseModel):
    """What came of it.

    Attributes:
        side_px: side of the network's squares.
        differences: format to the greatest difference of a probability from the model's own.
        reasons: format to why there is none.
        made_with: the versions of Keras and TensorFlow.
    """

    side_px: int
    differences: dict[Format, float]
    reasons: dict[Format, str]
    made_with: dict[str, str]


def export(job: ExportJob) -> ExportAnswer:
    """Writes every format that the model can have, reads it back and compares the answers.

    Raises:
        InputDataError: the model cannot be loaded.
        IncompleteError: there is no room.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from croplake.model_export.network import draw_pictures, load_network
    from croplake.model_export.writing import READERS, WRITERS, Source

    network = load_network(Path(job.file), job.name, len(job.labels))
    source = Source(network, Path(job.file), job.labels, job.card, job.quantization)
    pictures_NHWC = draw_pictures(_NUM_PICTURES, network.side_px)
    expected_NC = network.answer(pictures_NHWC)
    greatest = _GREATEST_DIFFERENCE if network.is_exact else _IN_16_BITS
    differences: dict[Format, float] = {}
    reasons: dict[Format, str] = {}
    for format in job.formats:
        path = Path(job.folder, PLACES[format])
        try:
            with _as_incomplete(path):
                WRITERS[format](source, path)
            answer_NC = READERS[format](path, pictures_NHWC)
        except IncompleteError:
            raise
        except Exception as error:  # a converter's or a loader's: that format cannot be had
            reasons[format] = _first_line(error)
            continue
        difference = float(np.abs(answer_NC - expected_NC).max())
        is_meant = format == "tflite" and job.quantization != "none"
        if difference <= greatest or is_meant:
            differences[format] = difference
        else:
            reasons[format] = (
                f"loaded again it answers otherwise: a probability differs by {difference:.2g}"
            )
    return ExportAnswer(
        side_px=network.side_px,
        differences=differences,
        reasons=reasons,
        made_with={"keras": keras.__version__, "tensorflow": tf.__version__},
    )


@contextmanager
def _as_incomplete(path: Path) -> Iterator[None]:
    """What a file system says is no matter of the format."""
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.ResourceExhaustedError) as error:
        raise IncompleteError(
            f"{path}: cannot be written: {error}; make room there, or set TMPDIR to a folder that "
            "has some"
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:_REASON_CHARS]


def main() -> int:
    """Does one job."""
    return answer_one(lambda job: export(ExportJob.model_validate(job)).model_dump())


if __name__ == "__main__":
    sys.exit(main())
