"""`--sort-into`: the place that photos are copied to, and the list of those that are not."""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage
from croplake import tables as t
from croplake.errors import IncompleteError, SettingsError
from croplake.inference.copies import NOT_SORTED, PARTS
from croplake.inference.listing import is_address
from croplake.inference.photos import ANSWERED
from croplake.inference.stored import is_stored
from croplake.target_folder import check_target, is_below

_COLUMNS: Final = (t.PATH, t.STATUS, t.DETAIL)


def check_sort_into(into: str, patterns: Sequence[str], lake_root: str) -> None:
    """Refuses what cannot be before the work.

    Args:
        into: where photos are to be copied, a path or an address.
        patterns: of the photos.
        lake_root: address of the lake.

    Raises:
        SettingsError: a file is there, it cannot be written to, or it lies in the lake or in a
            folder of photos.
        IncompleteError: it does not answer, or is full.
    """
    storage.check_address(into)
    for pattern in patterns:
        if _is_in_photos(into, pattern):
            raise SettingsError(
                f"--sort-into {into}: lies in {pattern}, so the next run would sort its copies; "
                "expected a folder outside of the photos'"
            )
    check_target("--sort-into", into, lake_root, own_folder=PARTS)


def check_apart(into: str, paths: Iterable[str]) -> None:
    """Refuses copies of copies, which patterns alone do not show: of globs, and of lists.

    Args:
        into: as for `check_sort_into`.
        paths: of `list_photos`.

    Raises:
        SettingsError: some of the photos lie there.
    """
    folders = {path.rpartition("/")[0] or "/" for path in paths if not is_address(path)}
    inside = [folder for folder in folders if is_below(folder, into)]
    if inside:
        raise SettingsError(
            f"--sort-into {into}: there are photos to sort in {min(inside)}, so copies would be "
            "sorted again; expected a folder outside of the photos'"
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


def _is_in_photos(into: str, pattern: str) -> bool:
    """Whether a folder of photos holds the target; a glob's matches do not show it."""
    if is_stored(pattern):
        return is_below(into, pattern)
    if not storage.is_local(pattern):
        return False
    folder = os.path.expanduser(storage.local_path(pattern))
    return os.path.isdir(folder) and is_below(into, folder)
