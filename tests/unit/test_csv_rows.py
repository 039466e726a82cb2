"""Pieces of CSVs to rows: checked, typed, and the same whatever stands beside them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from croplake import tables as t
from croplake.catalog.csv_rows import BoxReader, PhotoReader, Rows, read_rows
from croplake.catalog.formats import BOXES_HEADER, PHOTOS_HEADER
from croplake.catalog.ids import image_ids
from tests.jobs.world import APPLE, PEAR, box_row, photo_row

A, B = "00000000000000aa", "ff000000000000bb"
BOXES = BoxReader(BOXES_HEADER, ",".join(BOXES_HEADER), (APPLE, PEAR))
PHOTOS = PhotoReader(PHOTOS_HEADER, ",".join(PHOTOS_HEADER))


def of(*lines: str, reader: BoxReader | PhotoReader = BOXES) -> Rows:
    return read_rows("\n".join(lines).encode(), reader, "train")


def reasons(rows: Rows) -> list[tuple[int, str]]:
    return [(reject.line, reject.reason) for reject in rows.rejects]


def test_rows_are_typed_and_go_to_the_bucket_of_their_class() -> None:
    rows = of(box_row(A, IsInside="-1"), box_row(B, PEAR, Source="", XMin="0"))
    first, second = rows.table.to_pylist()
    assert (first["bucket"], second["bucket"]) == (0, 1)
    assert image_ids(rows.table["image"].to_numpy()).to_pylist() == [A, B]
    assert [first[name] for name in t.CORNERS] == [0.1, 0.6, 0.2, 0.9]
    assert first[t.IS_INSIDE] == -1
    assert second[t.SOURCE] is None
    assert (rows.num_lines, rows.num_rows, rows.rejects) == (2, 2, [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (box_row(A)[:-2], "wrong_number_of_columns"),
        (box_row(A) + ",1", "wrong_number_of_columns"),
        (box_row(A, Source='"not closed'), "wrong_number_of_columns"),
        (box_row(A.upper()), "bad_image_id"),
        (box_row(A + "0"), "bad_image_id"),
        (box_row(""), "bad_image_id"),
        (box_row(A, "/m/0nobody"), "unknown_class"),
        (box_row(A, ""), "unknown_class"),
        (box_row(A, XMax="1.0001"), "bad_corner"),
        (box_row(A, XMax="nan"), "bad_corner"),
        (box_row(A, XMax=""), "bad_corner"),
        (box_row(A, XMax="0.6x"), "bad_corner"),
        (box_row(A, XMin="0.7"), "corners_reversed"),
        (box_row(A, Confidence=""), "bad_confidence"),
        (box_row(A, Confidence="inf"), "bad_confidence"),
        (box_row(A, Confidence="sure"), "bad_confidence"),
        (box_row(A, XMax="1e999"), "bad_corner"),
        (box_row(A, IsGroupOf="2"), "bad_flag"),
        (box_row(A, IsGroupOf="+1"), "bad_flag"),
        (box_row(A, IsGroupOf="200"), "bad_flag"),
        (box_row(A, IsGroupOf="0.5"), "bad_flag"),
        (box_row(A, IsGroupOf=""), "bad_flag"),
    ],
)
def test_what_is_wrong_with_a_box_is_named_and_its_neighbours_are_kept(
    line: str, reason: str
) -> None:
    neighbours = [box_row(A), box_row(B, PEAR)]
    rows = of(neighbours[0], line, neighbours[1])
    assert reasons(rows) == [(1, reason)]
    assert rows.rejects[0].text == line
    assert rows.table == of(*neighbours).table
    assert rows.num_rows == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImageID": "x"}, "bad_image_id"),
        ({"Subset": "test"}, "wrong_subset"),
        ({"Subset": ""}, "wrong_subset"),
        ({"Rotation": "45.0"}, "bad_rotation"),
        ({"Rotation": "left"}, "bad_rotation"),
        ({"Rotation": "45.5"}, "bad_rotation"),
        ({"Rotation": "nan"}, "bad_rotation"),
        ({"Rotation": "1e300"}, "bad_rotation"),
        ({"OriginalSize": "big"}, "bad_original_size"),
        ({"OriginalSize": "+5"}, "bad_original_size"),
        ({"OriginalSize": "99999999999999999999"}, "bad_original_size"),
        ({"Title": '"one" two"'}, None),
        ({"Title": '"a ""b"", c"'}, None),
        ({"Title": '"a\rb"'}, None),
        ({"Rotation": "", "OriginalSize": "", "Thumbnail300KURL": ""}, None),
    ],
)
def test_what_is_wrong_with_a_photo_is_named(changes: dict[str, str], reason: str | None) -> None:
    rows = of(photo_row(A), photo_row(B, **changes), photo_row(A), reader=PHOTOS)
    assert reasons(rows) == ([] if reason is None else [(1, reason)])
    assert rows.table.num_rows == 3 - (reason is not None)


def test_what_is_no_row_is_neither_read_nor_rejected() -> None:
    header = ",".join(BOXES_HEADER)
    rows = of(box_row(A), "", header, "\ufeff" + header, box_row(B), "")
    assert (rows.num_lines, rows.num_rows, rows.rejects) == (5, 2, [])
    assert rows.table.num_rows == 2


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    piece = photo_row(A, Title="caf?").encode().replace(b"?", b"\xe9")
    rows = read_rows(piece + b"\n" + photo_row(B).encode() + b"\n", PHOTOS, "train")
    assert rows.table[t.TITLE].to_pylist() == ["caf\ufffd", "Plain"]


def test_windows_line_ends_are_no_part_of_a_row() -> None:
    lines = [box_row(A), box_row(B, IsInside="7")]
    rows = read_rows("\r\n".join([*lines, ""]).encode(), BOXES, "train")
    assert (rows.table.num_rows, rows.rejects[0].text) == (1, lines[1])


LINES = st.sampled_from(
    [
        box_row(A),
        box_row(B, PEAR, Confidence="0.25"),
        box_row(B, Source='"a, ""b"""'),
        box_row(A, Source='"open'),
        box_row(A, IsInside="x"),
        box_row(A, IsInside="0x1"),
        box_row(A) + "\r" + box_row(B),
        box_row(A, Source='"a\rb"'),
        box_row(A, "/m/0no"),
        "1,2",
        "",
        ",".join(BOXES_HEADER),
    ]
)


@given(st.lists(LINES, min_size=1, max_size=12))
def test_lines_are_read_as_they_would_be_alone(lines: list[str]) -> None:
    together = of(*lines, "")
    alone = [read_rows(f"{line}\n".encode(), BOXES, "train") for line in lines]
    assert together.table.to_pylist() == [row for rows in alone for row in rows.table.to_pylist()]
    assert reasons(together) == [
        (number, reject.reason) for number, rows in enumerate(alone) for reject in rows.rejects
    ]
    assert together.num_rows == sum(rows.num_rows for rows in alone)
