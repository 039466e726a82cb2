"""Examples become answers and answers figures, with networks that say what the test tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.metrics import measure_tally
from croplake.evaluation.tally import Tally
from croplake.fetching.outcome import PhotoError, Status
from croplake.inference.examples import (
    ANSWER,
    ANSWERS_SCHEMA,
    CELLS_SCHEMA,
    FIRST,
    LABEL_PROBABILITY,
    PREDICTED_INDEX,
    RANK,
    SECOND,
    SLICES,
    read_tallies,
    score_examples,
    tally_answers,
)

CATEGORIES = ("red", "green", "blue")
NAN = float("nan")


class Told:
    """A network whose pictures are one byte, and which says of each what it was told to say."""

    def __init__(self, said: Mapping[bytes, Sequence[float]], side_px: int = 2) -> None:
        self._said = said
        self.side_px = side_px
        self.num_decoded = self.num_asked = 0

    def decode_jpeg(self, jpeg: bytes) -> Any:  # noqa: ANN401
        self.num_decoded += 1
        if jpeg not in self._said:
            raise PhotoError(Status.BROKEN_PHOTO, "torn")
        return np.full((self.side_px, self.side_px, 3), jpeg[0], np.uint8)

    def predict(self, squares_NHWC: Any) -> Any:  # noqa: ANN401
        self.num_asked += len(squares_NHWC)
        assert squares_NHWC.shape[1:] == (self.side_px, self.side_px, 3)
        keys = [bytes([square[0, 0, 0]]) for square in squares_NHWC]
        return np.array([self._said[key] for key in keys], np.float32)


def examples_of(images: Sequence[bytes | None], labels: Sequence[int]) -> pa.RecordBatch:
    num = len(images)
    values: dict[str, list[Any]] = {
        t.EXAMPLE_ID: [f"e{number}" for number in range(num)],
        t.BOX_ID: [f"b{number}" for number in range(num)],
        t.IMAGE_ID: ["i0"] * num,
        t.LABEL_INDEX: list(labels),
        t.BOX_AREA_FRAC: [0.5] * num,
        t.IS_OCCLUDED: [0] * num,
        t.IS_TRUNCATED: [-1] * num,
        t.IMAGE: list(images),
    }
    schema = pa.schema([t.EXAMPLES.schema.field(name) for name in values])
    return pa.RecordBatch.from_pydict(values, schema=schema)


def answers_of(table: pa.Table, whose: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.column(whose).to_pylist()
    return found


def tallies_of(
    table: pa.Table, whose: str, slices: Sequence[Sequence[str]] | None = None
) -> dict[str | None, Tally]:
    names = pa.array(slices or [[]] * table.num_rows, pa.list_(pa.string()))
    columns = [table.column(t.LABEL_INDEX), names, table.column(whose)]
    rows = pa.table(columns, names=[t.LABEL_INDEX, SLICES, ANSWER]).combine_chunks()
    cells = pa.Table.from_batches(tally_answers(rows.to_batches(), num_categories=3), CELLS_SCHEMA)
    return read_tallies(cells, 3)


def test_every_example_has_a_row_with_its_answer_or_why_there_is_none() -> None:
    network = Told({b"r": (0.7, 0.2, 0.1), b"g": (0.2, 0.5, 0.3), b"n": (NAN, 0.5, 0.5)})
    batch = examples_of([b"torn", b"r", None, b"g", b"n"], [0, 1, 2, 1, 0])
    found = list(score_examples([batch], [network], batch_size=2))
    assert [part.num_rows for part in found] == [2, 2, 1]
    table = pa.Table.from_batches(found, ANSWERS_SCHEMA)
    assert table.column(t.EXAMPLE_ID).to_pylist() == ["e0", "e1", "e2", "e3", "e4"]
    answers = answers_of(table, FIRST)
    statuses = [answer[t.STATUS] for answer in answers]
    assert statuses == ["broken_photo", "ok", "broken_photo", "ok", "not_finite"]
    assert [answer[PREDICTED_INDEX] for answer in answers] == [None, 0, None, 1, None]
    assert [answer[RANK] for answer in answers] == [None, 1, None, 0, None]
    assert answers[1][t.PROBABILITY] == pytest.approx(0.7)
    assert answers[1][LABEL_PROBABILITY] == pytest.approx(0.2)
    assert table.column(SECOND).null_count == 5


def test_answers_add_up_to_figures_and_the_rest_is_counted_apart() -> None:
    network = Told({b"r": (0.7, 0.2, 0.1), b"g": (0.2, 0.5, 0.3), b"n": (NAN, 0.5, 0.5)})
    batch = examples_of([b"torn", b"r", b"r", b"g", b"n", b"n"], [0, 0, 1, 1, 0, 0])
    table = pa.Table.from_batches(score_examples([batch], [network], batch_size=4))
    slices = [["a=1"], ["a=1", "b=2"], ["b=2"], [], ["a=1"], ["c=3"]]
    tallies = tallies_of(table, FIRST, slices)
    metrics = measure_tally(tallies[None], CATEGORIES)
    assert metrics.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert (metrics.num_unscored, metrics.num_not_finite) == (1, 2)
    assert metrics.loss == pytest.approx(-np.log([0.7, 0.2, 0.5]).mean())
    assert set(tallies) == {None, "a=1", "b=2", "c=3"}
    counts = {name: (n.num_examples, n.top1_hits) for name, n in tallies.items()}
    assert counts == {None: (3, 2), "a=1": (1, 1), "b=2": (2, 1), "c=3": (0, 0)}
    assert (tallies["a=1"].num_unscored, tallies["a=1"].num_not_finite) == (1, 1)


def test_an_answer_that_is_no_number_is_not_counted_as_a_guess() -> None:
    diverged = Told({b"r": (NAN, NAN, NAN)})
    found = score_examples([examples_of([b"r", b"r"], [0, 1])], [diverged], batch_size=8)
    tally = tallies_of(pa.Table.from_batches(found), FIRST)[None]
    with pytest.raises(InputDataError, match=r"0 pictures .* answer to 2 is not a number"):
        measure_tally(tally, CATEGORIES)


def test_an_ensemble_says_the_mean_of_its_members() -> None:
    one = Told({b"r": (0.6, 0.4, 0.0), b"g": (0.1, 0.8, 0.1)})
    other = Told({b"r": (0.2, 0.7, 0.1), b"g": (NAN, 0.9, 0.1)}, side_px=3)
    batch = examples_of([b"r", b"g"], [1, 1])
    found = score_examples([batch], [one, other], [one], batch_size=8)
    table = pa.Table.from_batches(found)
    both, alone = answers_of(table, FIRST), answers_of(table, SECOND)
    assert both[0][PREDICTED_INDEX] == 1
    assert both[0][t.PROBABILITY] == pytest.approx(0.55)
    assert both[1][t.STATUS] == "not_finite"  # one of its members has no answer
    assert alone[0][PREDICTED_INDEX] == 0
    assert alone[1][t.STATUS] == "ok"


def test_each_network_is_asked_once_and_a_picture_is_decoded_once_a_size() -> None:
    said = {b"r": (0.6, 0.4, 0.0)}
    one, alike, larger = Told(said), Told(said), Told(said, side_px=5)
    batch = examples_of([b"r"] * 4, [0] * 4)
    list(score_examples([batch], [one, alike, larger], [alike], batch_size=3))
    assert [network.num_asked for network in (one, alike, larger)] == [4, 4, 4]
    assert one.num_decoded + alike.num_decoded == 4
    assert larger.num_decoded == 4


def test_a_partition_without_examples_adds_nothing() -> None:
    empty = pa.Table.from_batches(tally_answers([], num_categories=3), CELLS_SCHEMA)
    assert read_tallies(empty, 3)[None].num_examples == 0
