"""From what a dataset spec says to classes: names in any capitalisation, MIDs, keywords, `all`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from croplake.catalog.classes import ClassEntry
from croplake.errors import SettingsError


def pick_classes(wanted: Sequence[str], classes: Sequence[ClassEntry]) -> dict[str, str]:
    """Finds the classes that a spec names.

    Args:
        wanted: names, MIDs (`/m/…`), keywords with `*`, or `all` (every class with a box).
        classes: the catalog's.

    Returns:
        MID to category (the class's published name), sorted by category.

    Raises:
        SettingsError: something wanted matches no class; the text offers near ones.
    """
    found: dict[str, str] = {}
    problems = []
    for text in wanted:
        matches = _matches(text, classes)
        found |= {entry.mid: entry.name for entry in matches}
        if not matches:
            problems.append(f'no class matches "{text}"{_did_you_mean(text, classes)}')
    if problems:
        raise SettingsError("\n".join(problems))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _matches(text: str, classes: Sequence[ClassEntry]) -> list[ClassEntry]:
    folded = text.casefold().strip()
    if folded == "all":
        return [entry for entry in classes if entry.num_boxes != 0]
    if text.startswith("/"):
        return [entry for entry in classes if entry.mid == text]
    if "*" in text or "?" in text:
        return [entry for entry in classes if fnmatchcase(entry.name.casefold(), folded)]
    return [entry for entry in classes if entry.name.casefold() == folded]


def _did_you_mean(text: str, classes: Sequence[ClassEntry]) -> str:
    names = {entry.name.casefold(): entry.name for entry in classes}
    folded = text.casefold().strip("* ")
    near = difflib.get_close_matches(folded, names, n=3, cutoff=0.6)
    near += [name for name in names if folded and folded in name and name not in near]
    if not near:
        return ""
    return "; did you mean: " + ", ".join(names[name] for name in near[:5]) + "?"
