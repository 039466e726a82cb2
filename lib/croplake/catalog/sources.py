"""Where the CSVs come from: wherever they lie, header and end checked before they are read."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from croplake import storage
from croplake.catalog.download import download
from croplake.catalog.formats import BOXES_HEADER, PHOTOS_HEADER, XCLICK_HEADER
from croplake.errors import IncompleteError, InputDataError
from croplake.fetching.http import HttpLimits

_TAIL_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class CsvFile:
    """A checked CSV file.

    Attributes:
        name: as the settings give it, for messages and `rejected_rows`.
        uri: where it is read.
        header: its columns.
        header_line: its first line, without its end and a byte order mark.
    """

    name: str
    uri: str
    header: tuple[str, ...]
    header_line: str


def obtain(source: str, folder: str, limits: HttpLimits) -> str:
    """A file's address for reading: itself, or where its download landed.

    Args:
        source: local path, storage address, or http(s) address.
        folder: address of the folder for downloads, as `download` keeps it.
        limits: of HTTP.

    Raises:
        InputDataError: there is no such file, or the host does not have it.
        IncompleteError: the download broke off, or the store does not answer; the same command
            goes on.
    """
    if urlsplit(source).scheme not in ("http", "https"):
        try:
            is_file = storage.size_bytes(source) is not None
            is_there = is_file or storage.exists(source)
        except OSError as error:
            raise IncompleteError(
                f"{source}: cannot be looked at: {error}; once the store answers, run the same "
                "command again"
            ) from error
        if not is_there:
            raise InputDataError(f"{source}: no such file")
        if not is_file:
            raise InputDataError(f"{source}: is a folder; expected a file")
        return storage.absolute(source)
    return download(source, folder, limits)


def check_photos_csv(name: str, uri: str) -> CsvFile:
    """Checks a photos CSV's header and end; errors as `_check`."""
    return _check(name, uri, (PHOTOS_HEADER,))


def check_boxes_csv(name: str, uri: str) -> CsvFile:
    """Checks a boxes CSV's header and end; errors as `_check`."""
    return _check(name, uri, (BOXES_HEADER, (*BOXES_HEADER, *XCLICK_HEADER)))


def _check(name: str, uri: str, headers: tuple[tuple[str, ...], ...]) -> CsvFile:
    """Reads a file's first and last lines.

    Raises:
        InputDataError: it is empty, its header is none of those expected, or it breaks off inside a
            row.
    """
    with storage.open_input(uri) as stream:
        head = stream.read(_TAIL_BYTES)
    if not head:
        raise InputDataError(f"{name}: empty file, expected the header {','.join(headers[0])}")
    decoded = head.split(b"\n", 1)[0].decode("utf-8", "replace")
    first_line = decoded.rstrip("\r").removeprefix("\ufeff")
    found = tuple(first_line.split(","))
    if found not in headers:
        raise InputDataError(f"{name}: wrong header\n{_compare(found, headers)}")
    last_line = _unfinished_line(uri)
    if last_line is not None and _num_fields(last_line) != len(found):
        raise InputDataError(
            f"{name}: truncated, its last row ends after {_num_fields(last_line)} of {len(found)} "
            f"columns: {last_line[:200]!r}; download it again"
        )
    return CsvFile(name, uri, found, first_line)


def _compare(found: tuple[str, ...], headers: tuple[tuple[str, ...], ...]) -> str:
    nearest = max(headers, key=lambda header: len(set(header) & set(found)))
    missing = [column for column in nearest if column not in found]
    unknown = [column for column in found if column not in nearest]
    text = f"  found    {','.join(found)[:300]}\n  expected {','.join(nearest)}"
    if missing:
        text += f"\n  missing  {', '.join(missing)}"
    if unknown:
        text += f"\n  unknown  {', '.join(unknown)[:200]}"
    return text


def _unfinished_line(uri: str) -> str | None:
    """The last line of a file that does not end with a line break; None where it does."""
    size = storage.size_bytes(uri) or 0
    with storage.open_random(uri) as file:
        file.seek(max(0, size - _TAIL_BYTES))
        tail = bytes(file.read())
    if tail.endswith(b"\n"):
        return None
    return tail.rsplit(b"\n", 1)[-1].decode("utf-8", "replace")


def _num_fields(line: str) -> int:
    return len(next(csv.reader([line]), []))
