"""Where pages go: the lake's folder of them, or a place that the user names."""

from __future__ import annotations

import os
from typing import Final

from croplake import storage
from croplake.errors import IncompleteError, SettingsError

REPORTS: Final = "reports"
"""The folder of a lake where its pages lie; `lake forget` looks through it."""


def check_place(out: str, *, setting: str = "--out") -> None:
    """Refuses what cannot be before the work; of other storage, its answer to the page tells.

    Args:
        out: where the page is to go, a path or an address.
        setting: what names it, for errors.

    Raises:
        SettingsError: no file can be there, a folder is in the page's place, or its folder cannot
            be made or written to.
    """
    storage.check_address(out)
    if not storage.is_local(out):
        return
    page = storage.local_path(out)
    if page.is_dir():
        raise SettingsError(f"{setting} {out}: is a folder; expected the file to write the page to")
    nearest = next(folder for folder in page.absolute().parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise SettingsError(
            f"{setting} {out}: {nearest} is no folder; expected one, or nothing yet, to write the "
            "page into"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise SettingsError(
            f"{setting} {out}: {nearest} cannot be written to; expected a folder that can, or one "
            "that can be made"
        )


def write_page(out: str, page: str) -> int:
    """Writes a page whole, or not at all.

    Args:
        out: where to; `check_place` has looked at it.
        page: the HTML.

    Returns:
        Its size in bytes.

    Raises:
        IncompleteError: it could not be written.
    """
    content = page.encode()
    try:
        storage.write_bytes(out, content)
    except OSError as error:
        raise IncompleteError(
            f"{out}: the page could not be written ({error}); make room there, or choose another "
            "place by --out, and run the same command again"
        ) from error
    return len(content)
