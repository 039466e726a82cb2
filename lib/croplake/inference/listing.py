"""Which photos a user means: folders, globs, files, addresses and lists of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from croplake import storage
from croplake.errors import InputDataError

_EXPECTED: Final = "expected a folder, a glob, a file, an http(s) address or @FILE with a list"


def list_photos(patterns: Sequence[str]) -> list[str]:
    """Lists the photos that patterns stand for, each once, in the patterns' order.

    A pattern is one of:

    - a folder: all files in it and below, sorted; hidden files and folders are skipped, whatever
      their ending (a file that is no photo gets a row that says so);
    - a glob (`*`, `?`, `[…]`, `**`), sorted; a folder that it matches is taken whole;
    - a file;
    - an http or https address;
    - `@FILE`: a text file with one pattern a line; empty lines and lines that begin with `#` are
      skipped. A plain path in it need not exist: it gets a row that says so.

    Args:
        patterns: at least one; relative paths are of the working directory.

    Returns:
        Absolute paths and addresses. A path that is not Unicode is a `file://` address.

    Raises:
        InputDataError: a pattern stands for nothing, or a folder or list cannot be read.
    """
    if not patterns:
        raise InputDataError(f"no photos named; {_EXPECTED}")
    found: dict[str, None] = {}
    for pattern in patterns:
        photos = _of_list(pattern) if pattern.startswith("@") else _of_pattern(pattern)
        if not photos:
            raise InputDataError(f"{pattern}: no photos there; {_EXPECTED}")
        found.update(dict.fromkeys(photos))
    return list(found)


def is_address(path: str) -> bool:
    """Whether a listed photo is to be downloaded."""
    return urlsplit(path).scheme.lower() in ("http", "https")


def _of_list(pattern: str) -> list[str]:
    try:
        lines = Path(pattern[1:]).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputDataError(f"{pattern}: the list cannot be read: {error}") from error
    photos: list[str] = []
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        of_entry = _of_pattern(entry) or ([] if glob.has_magic(entry) else [_listed(entry)])
        if not of_entry:
            raise InputDataError(f"{pattern}, line {number}: {entry}: no photos there")
        photos += of_entry
    return photos


def _of_pattern(pattern: str) -> list[str]:
    if is_address(pattern):
        return [pattern]
    if not storage.is_local(pattern):
        raise InputDataError(f"{pattern}: photos are not read from there; {_EXPECTED}")
    path = str(storage.local_path(pattern)) if pattern.startswith("file:") else pattern
    # A file may be called photo[1].jpg: what is there comes before what it might match.
    if os.path.lexists(path):
        return list(_below(path))
    matches = sorted(glob.glob(os.path.expanduser(path), recursive=True))
    return [photo for match in matches for photo in _below(match)]


def _below(path: str) -> Iterator[str]:
    if os.path.isfile(path):
        yield _listed(path)
        return
    for folder, folders, files in os.walk(path, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = os.path.join(folder, name)
            if not name.startswith(".") and os.path.isfile(file):
                yield _listed(file)


def _refuse(error: OSError) -> None:
    raise InputDataError(f"{error.filename}: the folder cannot be read: {error.strerror}")


def _listed(path: str) -> str:
    absolute = os.path.abspath(os.path.expanduser(path))
    try:
        absolute.encode()
    except UnicodeEncodeError:
        return Path(absolute).as_uri()
    return absolute
