"""Folder names for categories: any file system takes them, no two are one."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Final

_MAX_BYTES: Final = 120
"""Room for a mark within the 255 bytes that file systems give a name, and for encryption's part."""
_UNSAFE: Final = re.compile(r'[<>:"/\\|?*#%\x7f]')
"""Refused by Windows, or read as more than a name in an address."""
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Devices of Windows, with any extension."""
_MARKED: Final = re.compile(r"-[0-9a-f]{8}")
_NAMELESS: Final = "category"


def folder_names(categories: Iterable[str]) -> dict[str, str]:
    """The folder of each category.

    A name is the category itself wherever that is safe. Another one has its unsafe characters
    replaced and a mark at its end that depends on the category alone; so have all of those that
    differ only in case or in how their accents are written, which some file systems take for one.

    Args:
        categories: distinct.

    Returns:
        Category to folder name; no name starts with a dot or an underscore, which readers skip.
    """
    plain = {category: safe_name(category) for category in categories}
    uses = Counter(_as_seen(name) for name in plain.values())
    return {
        category: name
        if name == category and uses[_as_seen(name)] == 1 and not _MARKED.fullmatch(name[-9:])
        else f"{name}-{hashlib.sha256(category.encode()).hexdigest()[:8]}"
        for category, name in plain.items()
    }


def safe_name(text: str, *, nameless: str = _NAMELESS) -> str:
    """A name that any file system takes, as much like the text as can be.

    Args:
        text: anything.
        nameless: what is called so whose text has no letter that is safe; put before a name that
            is a device's on Windows.
    """
    printable = "".join(char if char.isprintable() else "_" for char in text)
    name = _UNSAFE.sub("_", printable)
    name = name.encode(errors="replace")[:_MAX_BYTES].decode(errors="ignore").strip(" ._")
    return f"{nameless} {name}" if _RESERVED.fullmatch(name) else name or nameless


def _as_seen(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
