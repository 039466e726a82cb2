"""Executor code of the evaluation: Arrow batches of examples in, Arrow batches of answers out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from croplake import tables as t
from croplake.evaluation.tally import Cell, Tally
from croplake.fetching.outcome import PhotoError
from croplake.inference.model import STATUS_NOT_FINITE
from croplake.inference.network import Probabilities, Squares

SCORES_SCHEMA: Final = pa.schema(
    [
        (t.EXAMPLE_ID, pa.string()),
        (t.LABEL_INDEX, pa.int32()),
        (t.STATUS, pa.string()),
        (t.PROBABILITIES, pa.list_(pa.float32())),
    ]
)
"""One row is a scored example; `probabilities` is null where `status` is not `ok`."""

CELLS_SCHEMA: Final = pa.schema(
    [
        ("name", pa.string()),
        ("label_index", pa.int32()),
        ("predicted_index", pa.int32()),
        ("value", pa.float64()),
    ]
)
"""One row is a `Cell` of a tally."""


class JpegClassifier(Protocol):
    """What scoring needs of `croplake.inference.model.Classifier`."""

    def decode_jpeg(self, jpeg: bytes) -> Squares:
        """RGB 0..255, shape (side, side, 3); raises PhotoError."""

    def predict(self, squares_NHWC: Squares) -> Probabilities:
        """Probabilities, shape (N, C)."""


def score_examples(
    batches: Iterable[pa.RecordBatch], classifier: JpegClassifier, *, batch_size: int
) -> Iterator[pa.RecordBatch]:
    """Asks the model about every example.

    Args:
        batches: with the columns `example_id`, `label_index`, `image` (JPEG).
        classifier: the model.
        batch_size: examples of a step.

    Yields:
        Batches of `SCORES_SCHEMA`, one row per row in, in their order. A JPEG that cannot be
        decoded has the status `broken_photo`, an answer that is no number `not_finite`.
    """
    for batch in batches:
        for start in range(0, batch.num_rows, batch_size):
            yield _score(batch.slice(start, batch_size), classifier)


def tally_scores(
    batches: Iterable[pa.RecordBatch], *, num_categories: int
) -> Iterator[pa.RecordBatch]:
    """Adds up a partition's answers.

    Args:
        batches: of `SCORES_SCHEMA`.
        num_categories: C.

    Yields:
        One batch of `CELLS_SCHEMA`.
    """
    total = Tally.empty(num_categories)
    for batch in batches:
        total += _tally(batch, num_categories)
    columns = zip(*total.cells(), strict=True)
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, CELLS_SCHEMA, strict=True)
    ]
    yield pa.RecordBatch.from_arrays(arrays, schema=CELLS_SCHEMA)


def read_cells(table: pa.Table) -> Iterator[Cell]:
    """The cells of a table of `CELLS_SCHEMA`."""
    columns = (table.column(name).to_pylist() for name in Cell._fields)
    return map(Cell, *columns)


def _score(batch: pa.RecordBatch, classifier: JpegClassifier) -> pa.RecordBatch:
    squares: list[Squares] = []
    statuses: list[str] = []
    for image in batch.column(t.IMAGE):
        try:
            squares.append(classifier.decode_jpeg(image.as_py() or b""))
            statuses.append(t.STATUS_OK)
        except PhotoError as error:
            statuses.append(str(error.status))
    answers = iter(classifier.predict(np.stack(squares)) if squares else ())
    probabilities: list[Probabilities | None] = []
    for index, status in enumerate(statuses):
        answer = next(answers) if status == t.STATUS_OK else None
        if answer is not None and not np.isfinite(answer).all():
            statuses[index], answer = STATUS_NOT_FINITE, None
        probabilities.append(answer)
    return pa.RecordBatch.from_arrays(
        [
            batch.column(t.EXAMPLE_ID),
            batch.column(t.LABEL_INDEX),
            pa.array(statuses, pa.string()),
            pa.array(probabilities, pa.list_(pa.float32())),
        ],
        schema=SCORES_SCHEMA,
    )


def _tally(batch: pa.RecordBatch, num_categories: int) -> Tally:
    is_scored = batch.column(t.PROBABILITIES).is_valid()
    scored = batch.filter(is_scored)
    flat = scored.column(t.PROBABILITIES).flatten().to_numpy(zero_copy_only=False)
    return Tally.of(
        flat.reshape(scored.num_rows, num_categories),
        scored.column(t.LABEL_INDEX).to_numpy(zero_copy_only=False),
        num_unscored=batch.num_rows - scored.num_rows,
    )
