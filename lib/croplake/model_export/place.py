"""Where a model is exported to: whose files are there, and how the new ones come there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from croplake import storage
from croplake.errors import InputDataError
from croplake.export.placing import PARTS, place_bytes, place_file
from croplake.export.plan import OWN_FOLDER
from croplake.model_export.formats import CARD, PLACES, Format
from croplake.target_folder import check_target

MARK: Final = f"{OWN_FOLDER}/model.json"
"""Lists the files of the export that is there; no others are ever replaced or removed."""
_SAVEDMODEL: Final = f"{PLACES['savedmodel']}/saved_model.pb"
_COMES_LAST: Final = (_SAVEDMODEL, CARD)
"""What is looked for first by those who load the rest."""


def check_place(
    into: str, lake_root: str, formats: Iterable[Format], beside: Iterable[str]
) -> None:
    """Refuses what cannot be before the work begins.

    Args:
        into: path or address of the folder.
        lake_root: of the lake that the model is in.
        formats: that are to be written.
        beside: further files that are to be written.

    Raises:
        SettingsError: it is in the lake, a file, or may not be written.
        InputDataError: files are there that are not an earlier export's.
        IncompleteError: it cannot be written as things are.
    """
    planned = {*(PLACES[format] for format in formats), *beside}
    check_target(
        "--into",
        into,
        lake_root,
        own_folder=OWN_FOLDER,
        check_files=lambda: _check_files(storage.absolute(into), planned),
    )


def _check_files(into: str, planned: set[str]) -> None:
    there = set(storage.names_in(into)) - {OWN_FOLDER}
    if not there:
        return
    if not storage.exists(storage.join(into, MARK)):
        raise InputDataError(
            f"{into}: is not empty, and holds no exported model; expected a new or an empty "
            "folder: name another, or remove what is there"
        )
    own = _read_mark(into)
    for name in sorted(there & planned):
        found = _files_of(into, name)
        if strange := sorted(found - own):
            raise InputDataError(
                f"{into}: {strange[0]} was not written by croplake; it stays: export into another "
                "folder, or move it"
            )


def _files_of(into: str, name: str) -> set[str]:
    """The paths of a file, or of all files of a folder, below the export."""
    address = storage.join(into, name)
    if storage.size_bytes(address) is not None:
        return {name}
    return {f"{name}/{file.path}" for file in storage.files_below(address)}


def _read_mark(into: str) -> set[str]:
    address = storage.join(into, MARK)
    if not storage.exists(address):
        return set()
    try:
        return {str(path) for path in json.loads(storage.read_bytes(address))["files"]}
    except (ValueError, TypeError, KeyError) as error:
        raise InputDataError(
            f"{address}: is no list of an export's files ({error}); export into another folder, or "
            "remove this one"
        ) from error


def place_export(into: str, files: dict[str, Path], texts: dict[str, bytes]) -> None:
    """Puts an export at its place, each file whole; what an earlier one had beside is removed.

    Args:
        into: address of the folder.
        files: path below it to the local file that comes there.
        texts: path below it to its content.

    Raises:
        OSError: a file cannot be written; `CARD` is there only once all are.
    """
    before, now = _read_mark(into), {*files, *texts}
    # All that is or will be there is croplake's, wherever this breaks off.
    _write_mark(into, before | now)
    going = [*_COMES_LAST, *sorted(before - now)]
    for address in (storage.join(into, path) for path in going if path in before):
        storage.remove(address)
    for folder in sorted({path.split("/")[0] for path in before - now if "/" in path}):
        # What is a user's own in it stays.
        if not storage.list_files(storage.join(into, folder)):
            storage.remove(storage.join(into, folder))
    for path in sorted(now, key=lambda path: (path in _COMES_LAST, path == CARD, path)):
        if path in files:
            place_file(into, path, files[path])
        else:
            place_bytes(into, path, texts[path])
    _write_mark(into, now)
    storage.remove(storage.join(into, PARTS))


def _write_mark(into: str, paths: set[str]) -> None:
    place_bytes(into, MARK, json.dumps({"files": sorted(paths)}, indent=1).encode())
