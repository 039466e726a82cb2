"""The folder that a user names for files, looked at before the work that fills it."""

from __future__ import annotations

from collections.abc import Callable

from croplake import storage
from croplake.errors import IncompleteError, SettingsError


def is_below(place: str, folder: str) -> bool:
    """Whether a place is a folder or in it, however their addresses are written."""
    inner, outer = (f"{storage.for_spark(uri).rstrip('/')}/" for uri in (place, folder))
    return inner.startswith(outer)


def check_target(
    option: str,
    into: str,
    lake_root: str,
    *,
    own_folder: str,
    check_files: Callable[[], object] = lambda: None,
) -> None:
    """Refuses a folder that cannot be.

    An empty file `writable` is left in its own folder: who may write into a bucket may not always
    delete.

    Args:
        option: of the command line, that named the folder.
        into: path or address of the folder, as the user wrote it.
        lake_root: address of the lake.
        own_folder: name of the folder in it that is croplake's.
        check_files: refuses what lies there, by an error of its own.

    Raises:
        SettingsError: it is in the lake, a file, or may not be written.
        IncompleteError: it does not answer, or is full.
    """
    target = storage.absolute(into)
    if is_below(into, lake_root):
        raise SettingsError(f"{option} {into}: is in the lake; expected a folder elsewhere")
    try:
        if storage.size_bytes(target) is not None:
            raise SettingsError(f"{option} {into}: is a file; expected a folder, or none yet")
        check_files()
        storage.write_bytes(storage.join(target, own_folder, "writable"), b"")
    except OSError as error:
        told = f"{option} {into}: cannot be written: {error}"
        if storage.is_refusal(error):
            raise SettingsError(
                f"{told}; expected a folder, new or there, that this user may write"
            ) from error
        raise IncompleteError(f"{told}; once that is mended, run the same command again") from error
