"""`--sort-into`: the place that photos are copied to, and the list of those that are not."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage
from croplake import tables as t
from croplake.errors import IncompleteError, SettingsError
from croplake.inference.copies import NOT_SORTED, PARTS
from croplake.inference.listing import TABLE, expanded, is_address, plain_patterns
from croplake.inference.photos import ANSWERED
from croplake.inference.stored import MAGIC, glob_regex, is_hidden, is_stored
from croplake.target_folder import check_target

_COLUMNS: Final = (t.PATH, t.STATUS, t.DETAIL)


def check_sort_into(
    into: str, folders: Iterable[str], patterns: Sequence[str], lake_root: str
) -> None:
    """Refuses what cannot be before the work.

    Args:
        into: where photos are to be copied, a path or an address.
        folders: names of the folders in it that photos are copied to.
        patterns: of the photos. Those that tables name are not looked at.
        lake_root: address of the lake.

    Raises:
        SettingsError: a file is there, it cannot be written to, it lies in the lake, or a pattern
            stands for what would lie in its folders.
        InputDataError: a list of patterns cannot be read.
        IncompleteError: it does not answer, or is full.
    """
    storage.check_address(into)
    target = storage.for_spark(into).rstrip("/")
    copies = [f"{target}/{folder}" for folder in folders]
    taken_whole = {place for folder in copies for place in _listed_with(folder)}
    for pattern in plain_patterns(patterns):
        if is_stored(pattern):
            place, is_glob = storage.for_spark(pattern), True
        elif storage.is_local(pattern) and not pattern.startswith(TABLE):
            path = expanded(pattern)
            if not pattern.strip() or "\0" in pattern or path.is_file():
                continue
            # What is there comes before what it might match.
            place, is_glob = storage.for_spark(str(path)), not os.path.lexists(path)
        else:
            continue
        if place.rstrip("/") in taken_whole or (is_glob and _has_matches_in(copies, place)):
            raise SettingsError(
                f"--sort-into {into}: {pattern} stands for what is copied there, too, so the next "
                "run would sort its copies; expected a folder outside of the photos'"
            )
    check_target("--sort-into", into, lake_root, own_folder=PARTS)


def check_apart(into: str, folders: Iterable[str], paths: Iterable[str]) -> None:
    """Refuses copies of copies to which links lead: patterns do not show them.

    Args:
        into: as for `check_sort_into`.
        folders: as for `check_sort_into`.
        paths: of `list_photos`.

    Raises:
        SettingsError: some of the photos lie where photos are copied to.
    """
    target = storage.for_spark(into).rstrip("/")
    copies = {f"{target}/{folder}" for folder in folders}
    for place in {path.rpartition("/")[0] or "/" for path in paths if not is_address(path)}:
        if storage.for_spark(place).rstrip("/") in copies:
            raise SettingsError(
                f"--sort-into {into}: there are photos to sort in {place}, where photos are copied "
                "to, so copies would be sorted again; expected a folder outside of the photos'"
            )


def write_not_sorted(into: str, landed: DataFrame) -> None:
    """Lists the photos that have no category, beside the folders; an older list is replaced.

    Args:
        into: as for `check_sort_into`.
        landed: the run's rows of `predictions`, in the order they are to stand.

    Raises:
        IncompleteError: the list cannot be written.
    """
    target = storage.absolute(into)
    rows = landed.where(~F.col(t.STATUS).isin(*ANSWERED)).select(*_COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, NOT_SORTED)
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(rows.toLocalIterator())
        try:
            storage.upload_file(part, storage.join(target, NOT_SORTED))
        except OSError as error:
            raise IncompleteError(
                f"--sort-into {into}: {NOT_SORTED} cannot be written: {error}; the answers are in "
                "the table; once that is mended, run the same command again"
            ) from error
    # Who may write into a bucket may not always delete.
    with contextlib.suppress(OSError):
        storage.remove(storage.join(target, PARTS))


def _listed_with(folder: str) -> Iterator[str]:
    """Folders that, taken whole, bring a folder's files: itself and those above it."""
    yield folder.rstrip("/")
    above, _, name = folder.rpartition("/")
    if not is_hidden(name) and not above.endswith(":/"):
        yield from _listed_with(above)


def _has_matches_in(folders: Sequence[str], pattern: str) -> bool:
    """Whether files in one of the folders may match a glob, or it matches one as a whole."""
    if not MAGIC.search(pattern):
        return False
    steps = pattern.split("/")
    whole = re.compile(glob_regex(steps), re.DOTALL)
    file = re.compile(glob_regex(steps[:-1]), re.DOTALL)
    for folder in folders:
        match = whole.match(folder)
        if match is not None and not is_hidden(folder[match.end() :]):
            return True
        if MAGIC.search(steps[-1]) and file.fullmatch(folder):
            return True
    return False
