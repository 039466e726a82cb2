"""A piece of a published CSV to typed rows: each checked, or given the reason why it is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from croplake import tables as t
from croplake.catalog.formats import FLAGS, PHOTOS_HEADER
from croplake.catalog.ids import image_numbers

WRONG_NUMBER_OF_COLUMNS: Final = "wrong_number_of_columns"
_BAD_IMAGE_ID: Final = "bad_image_id"
_UNKNOWN_CLASS: Final = "unknown_class"
_BAD_CORNER: Final = "bad_corner"
_CORNERS_REVERSED: Final = "corners_reversed"
_BAD_CONFIDENCE: Final = "bad_confidence"
_BAD_FLAG: Final = "bad_flag"
_WRONG_SUBSET: Final = "wrong_subset"
_BAD_SIZE: Final = "bad_original_size"
_BAD_ROTATION: Final = "bad_rotation"

IMAGE: Final = "image"
"""The photo's id as the number that its 16 hex digits spell."""
BUCKET: Final = "bucket"
"""Rows of one bucket come together: of boxes the place of the class, of photos their first byte."""

_CORNER_COLUMNS: Final = ("XMin", "XMax", "YMin", "YMax")
_TEXT: Final = pa.string()
_TYPES: Final = {
    **dict.fromkeys((*_CORNER_COLUMNS, "Confidence", "Rotation"), pa.float64()),
    **dict.fromkeys(FLAGS, pa.int8()),
    "OriginalSize": pa.int64(),
    "LabelName": pa.dictionary(pa.int32(), _TEXT),
}
"""Of columns that are no plain texts."""
_DEGREES: Final = (0.0, 90.0, 180.0, 270.0)

Mask = NDArray[np.bool_]


class Reject(NamedTuple):
    """A row that cannot be read.

    Attributes:
        line: its place among the lines of the piece, from 0.
        text: the line without its end.
        reason: why.
    """

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Rows:
    """What a piece of a CSV holds.

    Attributes:
        table: the good rows: `bucket`, `image` and the columns of the reader.
        num_lines: lines of the piece, the header and empty ones too.
        num_rows: those of them that are rows, good or not.
        rejects: the rows that are not in `table`.
    """

    table: pa.Table
    num_lines: int
    num_rows: int
    rejects: list[Reject]


@dataclass(frozen=True)
class _Checked:
    """Rows with what is wrong with them; the first reason that holds is the row's."""

    columns: dict[str, pa.Array]
    wrong: list[tuple[str, Mask]]


@dataclass(frozen=True)
class BoxReader:
    """Reads boxes: `source`, corners, `confidence` and flags.

    Attributes:
        header: the file's columns.
        header_line: its first line.
        mids: of all classes, sorted; a box's bucket is the place of its class in them.
    """

    header: tuple[str, ...]
    header_line: str
    mids: tuple[str, ...]
    columns: tuple[str, ...] = field(
        default=("ImageID", "LabelName", "Source", "Confidence", *_CORNER_COLUMNS, *FLAGS),
        init=False,
    )

    def check(self, rows: pa.Table, subset: str) -> _Checked:
        """Judges rows of the columns that are read."""
        image, bad_image = image_numbers(rows["ImageID"])
        place = _places(rows["LabelName"], self.mids)
        corners = {name: _floats(rows[name]) for name in _CORNER_COLUMNS}
        flags = {name: pc.fill_null(rows[name], 2).to_numpy() for name in FLAGS}
        outside = _any([~((corner >= 0) & (corner <= 1)) for corner in corners.values()])
        reversed_ = (corners["XMin"] > corners["XMax"]) | (corners["YMin"] > corners["YMax"])
        confidence = _floats(rows["Confidence"])
        wrong = [
            (_BAD_IMAGE_ID, bad_image),
            (_UNKNOWN_CLASS, place < 0),
            (_BAD_CORNER, outside),
            (_CORNERS_REVERSED, reversed_),
            (_BAD_CONFIDENCE, ~np.isfinite(confidence)),
            (_BAD_FLAG, _any([(flag < -1) | (flag > 1) for flag in flags.values()])),
        ]
        columns = {BUCKET: pa.array(place), IMAGE: pa.array(image), t.SOURCE: rows["Source"]}
        columns |= {
            name: rows[column] for name, column in zip(t.CORNERS, _CORNER_COLUMNS, strict=True)
        }
        columns[t.CONFIDENCE] = rows["Confidence"]
        columns |= {name: rows[column] for name, column in zip(t.FLAGS, FLAGS, strict=True)}
        return _Checked(columns, wrong)


@dataclass(frozen=True)
class PhotoReader:
    """Reads photos: all columns of `photos` but id and subset.

    Attributes:
        header: the file's columns.
        header_line: its first line.
    """

    header: tuple[str, ...]
    header_line: str
    columns: tuple[str, ...] = field(default=PHOTOS_HEADER, init=False)

    def check(self, rows: pa.Table, subset: str) -> _Checked:
        """Judges rows of the columns that are read."""
        image, bad_image = image_numbers(rows["ImageID"])
        is_other = pc.fill_null(pc.not_equal(rows["Subset"], subset), fill_value=True)
        rotation = _floats(rows["Rotation"])
        is_turned = rows["Rotation"].is_valid().to_numpy()
        is_right = np.isin(rotation, _DEGREES)
        wrong = [
            (_BAD_IMAGE_ID, bad_image),
            (_WRONG_SUBSET, is_other.to_numpy()),
            (_BAD_ROTATION, is_turned & ~is_right),
        ]
        # Of wrong ones, nan and 45.5 are no whole numbers at all.
        degrees = pa.array(np.where(is_right, rotation, 0), pa.int32(), mask=~is_turned)
        columns = {
            BUCKET: pa.array((image >> np.uint64(56)).astype(np.int32)),
            IMAGE: pa.array(image),
            t.ORIGINAL_URL: rows["OriginalURL"],
            t.THUMBNAIL_URL: rows["Thumbnail300KURL"],
            t.ORIGINAL_SIZE_BYTES: rows["OriginalSize"],
            t.ORIGINAL_MD5_BASE64: rows["OriginalMD5"],
            t.ROTATION_DEG: degrees,
            t.LICENSE: rows["License"],
            t.AUTHOR: rows["Author"],
            t.AUTHOR_URL: rows["AuthorProfileURL"],
            t.TITLE: rows["Title"],
            t.LANDING_URL: rows["OriginalLandingURL"],
        }
        return _Checked(columns, wrong)


Reader = BoxReader | PhotoReader


def read_rows(piece: bytes, reader: Reader, subset: str) -> Rows:
    """Parses, types and checks a piece of a CSV.

    Args:
        piece: whole lines of the file, at least one.
        reader: of the file.
        subset: the one that the file's rows belong to.
    """
    tables, rejects, num_lines = [], [], _num_lines(piece)
    for part in _parts(piece, num_lines, reader, 0):
        good, bad = _judge(part, reader, subset)
        tables.append(good)
        rejects += bad
    lines = None
    if rejects:
        lines = piece.split(b"\n")
        # Files put one after another have their headers in between.
        rejects = [
            Reject(reject.line, text, reject.reason)
            for reject in rejects
            if (text := _text(lines[reject.line])) not in ("", reader.header_line)
        ]
    table = pa.concat_tables(tables)
    num_rows = table.num_rows + len(rejects)
    return Rows(table, num_lines, num_rows, sorted(rejects))


class _Part(NamedTuple):
    """Lines that have been parsed together.

    Attributes:
        rows: the columns that are read.
        lines: the place of each row in the piece.
        misfits: places of lines that have another number of columns.
        untyped: rows by why a field that may be empty is not of its type.
    """

    rows: pa.Table
    lines: NDArray[np.int64]
    misfits: list[int]
    untyped: list[tuple[str, Mask]]


def _parts(piece: bytes, num_lines: int, reader: Reader, first_line: int) -> Iterator[_Part]:
    """Parses lines as fast as they allow.

    The parser takes a quote that is not closed for a field that goes on over the next lines. Where
    that made fewer rows than there are lines, each half is parsed by itself, until the line stands
    alone.
    """
    every_line = np.arange(first_line, first_line + num_lines)
    # Alone it ends a row, or stands in a quoted field: only on a line by itself can that be told.
    may_end_rows = piece.count(b"\r") != piece.count(b"\r\n") and num_lines > 1
    try:
        rows = _parse(piece, reader, _TYPES)
        if rows.num_rows == num_lines and not may_end_rows:
            yield _Part(rows, every_line, [], [])
            return
    except pa.ArrowInvalid:
        pass
    misfits: list[int] = []
    texts = _parse(_decodable(piece), reader, {}, misfits)
    if texts.num_rows + len(misfits) == num_lines and not may_end_rows:
        lines = np.delete(every_line, misfits)
        rows, untyped = _typed(texts)
        yield _Part(rows, lines, [first_line + number for number in misfits], untyped)
    elif num_lines == 1:
        yield _Part(_typed(texts.slice(0, 0))[0], every_line[:0], [first_line], [])
    else:
        middle = piece.find(b"\n", len(piece) // 2) + 1
        if middle in (0, len(piece)):
            middle = piece.rfind(b"\n", 0, len(piece) - 1) + 1
        head = piece[:middle]
        num_of_head = _num_lines(head)
        yield from _parts(head, num_of_head, reader, first_line)
        rest = num_lines - num_of_head
        yield from _parts(piece[middle:], rest, reader, first_line + num_of_head)


def _parse(
    piece: bytes,
    reader: Reader,
    types: Mapping[str, pa.DataType],
    misfits: list[int] | None = None,
) -> pa.Table:
    """The columns that are read; empty fields are null.

    Args:
        piece: whole lines.
        reader: of the file.
        types: of columns that are no texts.
        misfits: takes in the places of lines that have another number of columns.

    Raises:
        pa.ArrowInvalid: a field is not of its type, a line has another number of columns and
            `misfits` is None, or a text is no UTF-8.
    """

    def note(row: csv.InvalidRow) -> str:
        if misfits is not None:
            misfits.append(row.number - 1)
        return "skip"

    handler = None if misfits is None else note
    return csv.read_csv(
        pa.BufferReader(piece),
        csv.ReadOptions(column_names=reader.header, use_threads=False, block_size=len(piece) + 1),
        csv.ParseOptions(invalid_row_handler=handler, ignore_empty_lines=False),
        csv.ConvertOptions(
            column_types={name: types.get(name, _TEXT) for name in reader.columns},
            include_columns=reader.columns,
            strings_can_be_null=True,
            null_values=[""],
        ),
    )


def _decodable(piece: bytes) -> bytes:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return piece.decode("utf-8", "replace").encode()
    return piece


def _typed(texts: pa.Table) -> tuple[pa.Table, list[tuple[str, Mask]]]:
    """Gives columns of texts their types; what is not of it is null.

    Returns:
        The columns, and by reason the rows in which a field that may be empty was not of its type.
    """
    columns, untyped = {}, []
    reasons = {"OriginalSize": _BAD_SIZE, "Rotation": _BAD_ROTATION}
    for name in texts.column_names:
        kind = _TYPES.get(name, _TEXT)
        if pa.types.is_dictionary(kind):
            columns[name] = texts[name].dictionary_encode()
            continue
        if kind == _TEXT:
            columns[name] = texts[name]
            continue
        columns[name] = _cast(pc.ascii_trim_whitespace(texts[name]), kind)
        if name in reasons:
            is_wrong = pc.and_(columns[name].is_null(), texts[name].is_valid())
            untyped.append((reasons[name], is_wrong.to_numpy()))
    return pa.table(columns), untyped


def _cast(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Texts as numbers, by the parser that reads columns of numbers; what is none is null."""
    encoded = texts.combine_chunks().dictionary_encode()
    values = []
    for text in encoded.dictionary:
        try:
            values.append(text.cast(kind))
        except pa.ArrowInvalid:
            values.append(None)
    numbers = [None if value is None else value.as_py() for value in values]
    return pa.chunked_array([pa.array(numbers, kind).take(encoded.indices)])


def _judge(part: _Part, reader: Reader, subset: str) -> tuple[pa.Table, list[Reject]]:
    """The good rows, and those that are not, their texts left empty."""
    checked = reader.check(part.rows, subset)
    table = pa.table(checked.columns)
    rejects = [Reject(line, "", WRONG_NUMBER_OF_COLUMNS) for line in part.misfits]
    wrong = [*part.untyped, *checked.wrong]
    is_bad = _any([mask for _, mask in wrong])
    if not is_bad.any():
        return table, rejects
    for row in np.flatnonzero(is_bad).tolist():
        reason = next(reason for reason, mask in wrong if mask[row])
        rejects.append(Reject(int(part.lines[row]), "", reason))
    return table.filter(pa.array(~is_bad)), rejects


def _num_lines(piece: bytes) -> int:
    return piece.count(b"\n") + (not piece.endswith(b"\n"))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").removesuffix("\r").removeprefix("\ufeff")


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Nulls are NaN."""
    return np.asarray(column, np.float64)


def _any(masks: Sequence[Mask]) -> Mask:
    return np.asarray(np.logical_or.reduce(masks))


def _places(labels: pa.ChunkedArray, mids: Sequence[str]) -> NDArray[np.int32]:
    """The place of each label in the class list, -1 where it is not there."""
    encoded = labels.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # no rows
        return np.empty(0, np.int32)
    found = pc.fill_null(pc.index_in(encoded.dictionary, pa.array(mids, _TEXT)), -1)
    known = np.append(found.to_numpy().astype(np.int32), np.int32(-1))
    places = pc.fill_null(encoded.indices, len(encoded.dictionary)).to_numpy()
    return np.asarray(known[places])
