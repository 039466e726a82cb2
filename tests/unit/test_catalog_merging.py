"""Ranges of a file, ids, and which of equal rows is left, against plain Python."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from croplake import tables as t
from croplake.catalog.ids import box_ids, image_ids, image_numbers
from croplake.catalog.merging import finish_boxes
from croplake.catalog.pieces import pieces

NUMBERS = st.integers(0, 2**64 - 1)


@given(st.lists(st.sampled_from(["", "a", "bb,", "c" * 70]), max_size=12), st.integers(1, 60))
def test_every_line_is_in_the_one_range_that_it_begins_in(lines: list[str], step: int) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "lines.csv")
        content = "\n".join(lines).encode()
        file.write_bytes(content)
        found = []
        for start in range(0, len(content) + step, step):
            for offset, piece in pieces(str(file), start, start + step):
                assert content[offset : offset + len(piece)] == piece
                assert start <= offset < start + step
                found.append(piece)
    assert b"".join(found) == content


@given(st.lists(NUMBERS))
def test_ids_become_numbers_and_texts_again(numbers: list[int]) -> None:
    texts = [f"{number:016x}" for number in numbers]
    found, is_bad = image_numbers(pa.chunked_array([texts], pa.string()))
    assert found.tolist() == numbers
    assert not is_bad.any()
    assert image_ids(found).to_pylist() == texts


def test_box_ids_are_hashes_of_photo_class_and_millionths() -> None:
    ids = pa.array(["00000000000000aa", "00000000000000bb"])
    corners = [np.array([0, value], np.uint64) for value in (1, 22, 333, 1_000_000)]
    texts = ["00000000000000aa|/m/0x|0|0|0|0", "00000000000000bb|/m/0x|1|22|333|1000000"]
    expected = [hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() for text in texts]
    assert box_ids(ids, "/m/0x", corners).to_pylist() == expected


Row = tuple[int, float, float, str, int]
ROWS = st.tuples(
    st.integers(0, 3),
    st.sampled_from([0.1, 0.10000001, 0.2]),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from([None, "activemil", "xclick"]),
    st.integers(-1, 1),
)


@given(st.lists(ROWS, min_size=1, max_size=30))
def test_of_equal_boxes_the_greatest_is_left(
    rows: list[Row],
) -> None:
    images, lefts, confidences, sources, flags = zip(*rows, strict=True)
    table = pa.table(
        {
            "image": pa.array(images, pa.uint64()),
            t.X_MIN: lefts,
            **{name: [0.9] * len(rows) for name in (t.X_MAX, t.Y_MIN, t.Y_MAX)},
            t.CONFIDENCE: confidences,
            t.SOURCE: pa.array(sources, pa.string()),
            **{name: pa.array(flags, pa.int8()) for name in t.FLAGS},
        }
    )
    found = pa.table(finish_boxes(table, "/m/0x")).to_pylist()
    best: dict[tuple[int, int], tuple[float, str, int]] = {}
    for image, left, confidence, source, flag in rows:
        key = (image, round(left * 1e6))
        best[key] = max(best.get(key, (0.0, "", -2)), (confidence, source or "", flag))
    got = {
        (int(row[t.IMAGE_ID], 16), round(row[t.X_MIN] * 1e6)): (
            row[t.CONFIDENCE],
            row[t.SOURCE] or "",
            row[t.IS_INSIDE],
        )
        for row in found
    }
    assert got == best
    assert len(found) == len(best)
    assert list(got) == sorted(got)
