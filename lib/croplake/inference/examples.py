"""Executor code of the evaluation: Arrow batches of examples in, Arrow batches of answers out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from croplake import tables as t
from croplake.evaluation.answers import Answers
from croplake.evaluation.tally import Cells, Tally
from croplake.fetching.outcome import PhotoError
from croplake.inference.model import STATUS_NOT_FINITE
from croplake.inference.network import Probabilities, Squares

FIRST: Final = "first"
SECOND: Final = "second"
"""What is measured, and what it is compared with."""
PREDICTED_INDEX: Final = "predicted_index"
LABEL_PROBABILITY: Final = "label_probability"
RANK: Final = "rank"
SLICES: Final = "slices"
ANSWER: Final = "answer"

KEYS: Final = (
    t.EXAMPLE_ID,
    t.BOX_ID,
    t.IMAGE_ID,
    t.LABEL_INDEX,
    t.BOX_AREA_FRAC,
    t.IS_OCCLUDED,
    t.IS_TRUNCATED,
)
"""What an answer keeps of its example."""
_ANSWER: Final = pa.struct(
    [
        (t.STATUS, pa.string()),
        (PREDICTED_INDEX, pa.int32()),
        (t.PROBABILITY, pa.float64()),
        (LABEL_PROBABILITY, pa.float64()),
        (RANK, pa.int32()),
    ]
)
"""`probability` is the best guess's; all are null where `status` is not `ok`."""
_NUMBERS: Final = (PREDICTED_INDEX, t.PROBABILITY, LABEL_PROBABILITY, RANK)
_PART_ROWS: Final = 16 * 1024
ANSWERS_SCHEMA: Final = pa.schema(
    [*(t.EXAMPLES.schema.field(name) for name in KEYS), (FIRST, _ANSWER), (SECOND, _ANSWER)]
)
"""One row is an example with its answers; `second` is null where nothing is compared."""
CELLS_SCHEMA: Final = pa.schema(
    [
        ("slice", pa.string()),
        ("place", pa.int64()),
        ("value", pa.float64()),
    ]
)
"""One row is one of the `Cells` of the tally of a slice; null is the whole."""


class JpegClassifier(Protocol):
    """What scoring needs of `croplake.inference.model.Classifier`."""

    @property
    def side_px(self) -> int:
        """Side of the squares."""

    def decode_jpeg(self, jpeg: bytes) -> Squares:
        """RGB 0..255, shape (side, side, 3); raises PhotoError."""

    def predict(self, squares_NHWC: Squares) -> Probabilities:
        """Probabilities, shape (N, C)."""


Ensemble: TypeAlias = Sequence[JpegClassifier]
"""Classifiers whose probabilities are averaged; a single one is an ensemble of one."""


def score_examples(
    batches: Iterable[pa.RecordBatch],
    first: Ensemble,
    second: Ensemble | None = None,
    *,
    batch_size: int,
) -> Iterator[pa.RecordBatch]:
    """Asks one or two classifiers about every example; each network is asked once.

    Args:
        batches: with the columns `KEYS` and `image` (JPEG).
        first: what is measured.
        second: what it is compared with.
        batch_size: examples of a step.

    Yields:
        Batches of `ANSWERS_SCHEMA`, one row per row in, in their order. A JPEG that cannot be
        decoded has the status `broken_photo`, an answer that is no number `not_finite`.
    """
    for batch in batches:
        for start in range(0, batch.num_rows, batch_size):
            yield _score(batch.slice(start, batch_size), first, second)


def tally_answers(
    batches: Iterable[pa.RecordBatch], *, num_categories: int
) -> Iterator[pa.RecordBatch]:
    """Adds up a partition's answers, in all and by slice.

    Args:
        batches: with the columns `label_index`, `slices` and `answer`, one of those of
            `ANSWERS_SCHEMA`.
        num_categories: C.

    Yields:
        Batches of `CELLS_SCHEMA`, one a slice.
    """
    totals: dict[str | None, Tally] = {None: Tally.empty(num_categories)}
    for batch in _in_large_parts(batches):
        for name, rows in _slices_of(batch).items():
            part = _tally(rows, num_categories)
            totals[name] = totals[name] + part if name in totals else part
    for name, total in totals.items():
        cells = total.cells()
        names = pa.repeat(pa.scalar(name, pa.string()), len(cells.places))
        arrays = [names, pa.array(cells.places), pa.array(cells.values)]
        yield pa.RecordBatch.from_arrays(arrays, schema=CELLS_SCHEMA)


def read_tallies(table: pa.Table, num_categories: int) -> dict[str | None, Tally]:
    """The tallies of a table of `CELLS_SCHEMA`: of the whole (None) and of each slice."""
    names = table.column("slice")
    found: dict[str | None, Tally] = {None: Tally.empty(num_categories)}
    for name in pc.unique(names).to_pylist():
        is_its = pc.is_null(names) if name is None else pc.equal(names, name)
        places, values = (column.to_numpy() for column in table.filter(is_its).columns[1:])
        found[name] = Tally.from_cells(Cells(places, values), num_categories)
    return found


def _score(batch: pa.RecordBatch, first: Ensemble, second: Ensemble | None) -> pa.RecordBatch:
    jpegs = [image.as_py() or b"" for image in batch.column(t.IMAGE)]
    labels = batch.column(t.LABEL_INDEX).to_numpy(zero_copy_only=False)
    networks = {id(network): network for network in (*first, *(second or ()))}
    decoded = {
        side_px: _decode(jpegs, next(n for n in networks.values() if n.side_px == side_px))
        for side_px in {network.side_px for network in networks.values()}
    }
    asked = {
        key: network.predict(decoded[network.side_px][1])
        for key, network in networks.items()
        if len(decoded[network.side_px][1])
    }

    def answers_of(ensemble: Ensemble) -> pa.StructArray:
        # Pictures that one size can be made of are those of any size.
        statuses = list(decoded[ensemble[0].side_px][0])
        said = [asked[id(network)] for network in ensemble if id(network) in asked]
        mean = np.mean(np.stack(said), axis=0, dtype=np.float64) if said else None
        return _answers(statuses, mean, labels)

    return pa.RecordBatch.from_arrays(
        [
            *(batch.column(name) for name in KEYS),
            answers_of(first),
            pa.nulls(batch.num_rows, _ANSWER) if second is None else answers_of(second),
        ],
        schema=ANSWERS_SCHEMA,
    )


def _decode(jpegs: Sequence[bytes], network: JpegClassifier) -> tuple[list[str], Squares]:
    """The status of each JPEG, and the squares of those that can be decoded."""
    squares: list[Squares] = []
    statuses: list[str] = []
    for jpeg in jpegs:
        try:
            squares.append(network.decode_jpeg(jpeg))
            statuses.append(t.STATUS_OK)
        except PhotoError as error:
            statuses.append(str(error.status))
    return statuses, np.stack(squares) if squares else np.zeros((0, 0, 0, 3), np.uint8)


def _answers(
    statuses: list[str], probabilities: NDArray[np.float64] | None, labels: NDArray[Any]
) -> pa.StructArray:
    """A column of answers.

    Args:
        statuses: of N pictures.
        probabilities: of those that are `ok`, in their order; None where none is.
        labels: of the N examples.
    """
    columns: dict[str, list[Any]] = {name: [None] * len(statuses) for name in _NUMBERS}
    if probabilities is not None:
        shown = np.array([n for n, status in enumerate(statuses) if status == t.STATUS_OK])
        is_finite = np.isfinite(probabilities).all(axis=1)
        for place in shown[~is_finite]:
            statuses[place] = STATUS_NOT_FINITE
        scored = shown[is_finite]
        found = Answers.of(probabilities[is_finite], labels[scored])
        numbers = (found.predicted, found.confidences, found.label_probabilities, found.ranks)
        for name, values in zip(_NUMBERS, numbers, strict=True):
            for place, value in zip(scored, values.tolist(), strict=True):
                columns[name][place] = value
    arrays = [pa.array(statuses, pa.string())]
    arrays += [pa.array(columns[name], _ANSWER[name].type) for name in _NUMBERS]
    return pa.StructArray.from_arrays(arrays, fields=list(_ANSWER))


def _in_large_parts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches put together: Spark's are small, and each would have a matrix of its own."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(part.num_rows for part in waiting) >= _PART_ROWS:
            yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()
            waiting = []
    if waiting:
        yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()


def _slices_of(batch: pa.RecordBatch) -> dict[str | None, pa.RecordBatch]:
    """The batch, and the rows of it that each slice holds."""
    slices, answers = batch.column(SLICES), batch.select([t.LABEL_INDEX, ANSWER])
    found: dict[str | None, pa.RecordBatch] = {None: answers}
    rows, names = pc.list_parent_indices(slices), pc.list_flatten(slices)
    for name in pc.unique(names).to_pylist():
        found[name] = answers.take(rows.filter(pc.equal(names, name)))
    return found


def _tally(batch: pa.RecordBatch, num_categories: int) -> Tally:
    answers = batch.column(ANSWER)
    is_ok, is_nan = (
        pc.equal(answers.field(t.STATUS), status).to_numpy(zero_copy_only=False)
        for status in (t.STATUS_OK, STATUS_NOT_FINITE)
    )
    labels = batch.column(t.LABEL_INDEX).to_numpy(zero_copy_only=False)

    def numbers(name: str) -> NDArray[Any]:
        return np.asarray(answers.field(name).to_numpy(zero_copy_only=False)[is_ok])

    return Tally.of_answers(
        Answers(
            labels=labels[is_ok].astype(np.int64),
            predicted=numbers(PREDICTED_INDEX).astype(np.int64),
            confidences=numbers(t.PROBABILITY).astype(np.float64),
            label_probabilities=numbers(LABEL_PROBABILITY).astype(np.float64),
            ranks=numbers(RANK).astype(np.int64),
        ),
        num_categories,
        num_unscored=int((~is_ok & ~is_nan).sum()),
        num_not_finite=int(is_nan.sum()),
    )
