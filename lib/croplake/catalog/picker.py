"""From what a dataset spec says to classes, and from classes to categories.

A pattern is a class's name in any capitalisation, a MID (`/m/…`), a glob over the names
(`*noodle*`), a subtree of the hierarchy (`Vehicle/**`: the class and all below it), or `all`: every
class with a box.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple

from croplake.catalog.classes import ClassEntry
from croplake.catalog.hierarchy import Hierarchy
from croplake.errors import SettingsError

Overlap = Literal["error", "first", "most_specific"]

SUBTREE: Final = "/**"
_ALL: Final = "all"
_BY_NAME, _BY_SUBTREE, _BY_GLOB, _BY_ALL = range(4)


@dataclass(frozen=True)
class ClassChoice:
    """What a dataset spec says of classes; see `croplake.conf.DatasetSpec`.

    Attributes:
        classes: patterns whose classes become categories of their own name.
        exclude: patterns whose classes are left out, whatever else names them.
        categories: own category to the patterns of its classes.
        on_overlap: what happens to a class of two categories.
    """

    classes: Sequence[str] = ()
    exclude: Sequence[str] = ()
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    on_overlap: Overlap = "error"


class _Rank(NamedTuple):
    """How specifically a pattern names a class; less is more so.

    Attributes:
        kind: by name, by subtree, by glob, by `all`.
        steps: down the hierarchy from the subtree's top.
    """

    kind: int
    steps: int = 0


class _Claim(NamedTuple):
    """A pattern's claim of a class for a category."""

    rank: _Rank
    category: str
    place: str
    pattern: str

    def __str__(self) -> str:
        return f'"{self.category}" ({self.place}: {self.pattern})'


def pick_classes(choice: ClassChoice, classes: Sequence[ClassEntry]) -> dict[str, str]:
    """Finds the classes that a spec names.

    Args:
        choice: of the spec.
        classes: the catalog's.

    Returns:
        MID to category, sorted by category and class.

    Raises:
        SettingsError: a pattern matches no class (the text offers near ones), a class falls into
            two categories, or a category has no class left.
    """
    hierarchy = Hierarchy(classes)
    problems: list[str] = []
    excluded: set[str] = set()
    for pattern in choice.exclude:
        excluded |= _matches_or_problem(pattern, hierarchy, problems).keys()
    claims: dict[str, list[_Claim]] = {}
    for pattern, place, category in _patterns(choice):
        for mid, rank in _matches_or_problem(pattern, hierarchy, problems).items():
            name = category or hierarchy.entries[mid].name
            claims.setdefault(mid, []).append(_Claim(rank, name, place, pattern))
    kept = {mid: found for mid, found in claims.items() if mid not in excluded}
    categories = {
        mid: _settle(hierarchy.entries[mid], found, choice.on_overlap, problems)
        for mid, found in kept.items()
    }
    if not problems:
        bare = [name for name in choice.categories if name not in categories.values()]
        problems += [f'category "{name}": no class of it is left' for name in bare]
        if not categories:
            problems.append("no class is chosen: what is named is excluded, or has no boxes")
    if problems:
        raise SettingsError("\n".join(problems))
    names = {mid: hierarchy.entries[mid].name for mid in categories}
    return dict(sorted(categories.items(), key=lambda item: (item[1], names[item[0]])))


def match_classes(pattern: str, hierarchy: Hierarchy) -> list[ClassEntry]:
    """The classes that one pattern names, in the list's order.

    Raises:
        SettingsError: there is none; the text offers near ones.
    """
    problems: list[str] = []
    found = _matches_or_problem(pattern, hierarchy, problems)
    if problems:
        raise SettingsError(problems[0])
    return [entry for mid, entry in hierarchy.entries.items() if mid in found]


def _patterns(choice: ClassChoice) -> Iterator[tuple[str, str, str | None]]:
    """Every pattern with its place in the spec and its category; own categories come first."""
    for category, patterns in choice.categories.items():
        for pattern in patterns:
            yield pattern, f"categories.{category}", category
    for pattern in choice.classes:
        yield pattern, "classes", None


def _settle(
    entry: ClassEntry, claims: Sequence[_Claim], on_overlap: Overlap, problems: list[str]
) -> str:
    """The category that a class falls into."""
    best: dict[str, _Claim] = {}
    for claim in claims:
        if claim.category not in best or claim.rank < best[claim.category].rank:
            best[claim.category] = claim
    first, *others = best.values()
    if not others or on_overlap == "first":
        return first.category
    ways_out = "exclude it, take it out of one, or set dataset.on_overlap: first"
    if on_overlap == "most_specific":
        first, second, *_ = sorted(best.values(), key=lambda claim: claim.rank)
        if first.rank < second.rank:
            return first.category
        problems.append(
            f"class {entry.name} falls into two categories, equally specifically: {first} and "
            f"{second}; {ways_out}"
        )
        return first.category
    problems.append(
        f"class {entry.name} falls into two categories: {first} and {others[0]}; {ways_out} or "
        "most_specific"
    )
    return first.category


def _matches_or_problem(
    pattern: str, hierarchy: Hierarchy, problems: list[str]
) -> dict[str, _Rank]:
    found = _matches(pattern.strip(), hierarchy)
    if not found:
        near = _did_you_mean(pattern, list(hierarchy.entries.values()))
        problems.append(f'no class matches "{pattern}"{near}')
    return found


def _matches(pattern: str, hierarchy: Hierarchy) -> dict[str, _Rank]:
    folded = pattern.casefold()
    entries = hierarchy.entries
    if folded == _ALL:
        with_boxes = (mid for mid, entry in entries.items() if entry.num_boxes != 0)
        return dict.fromkeys(with_boxes, _Rank(_BY_ALL))
    if pattern.endswith(SUBTREE):
        found: dict[str, _Rank] = {}
        for top in _named(pattern.removesuffix(SUBTREE), hierarchy):
            for mid, steps in hierarchy.below(top).items():
                rank = _Rank(_BY_SUBTREE, steps)
                found[mid] = min(found.get(mid, rank), rank)
        return found
    if not pattern.startswith("/") and any(sign in pattern for sign in "*?["):
        fitting = (mid for mid, entry in entries.items() if fnmatchcase(_fold(entry), folded))
        return dict.fromkeys(fitting, _Rank(_BY_GLOB))
    return dict.fromkeys(_named(pattern, hierarchy), _Rank(_BY_NAME))


def _named(text: str, hierarchy: Hierarchy) -> list[str]:
    """The class of a MID or a name."""
    folded = text.casefold().strip()
    entries = hierarchy.entries.items()
    return [mid for mid, entry in entries if folded in (mid.casefold(), _fold(entry))]


def _fold(entry: ClassEntry) -> str:
    return entry.name.casefold()


def _did_you_mean(text: str, classes: Sequence[ClassEntry]) -> str:
    if text.startswith("/"):
        folded = text.casefold().removesuffix(SUBTREE).strip()
        names = {entry.mid.casefold(): f"{entry.mid} ({entry.name})" for entry in classes}
        cutoff = 0.75  # they all begin alike
    else:
        folded = text.casefold().strip("*/ ")
        names = {entry.name.casefold(): entry.name for entry in classes}
        cutoff = 0.6
    near = difflib.get_close_matches(folded, names, n=3, cutoff=cutoff)
    near += [name for name in names if folded and folded in name and name not in near]
    if not near:
        return ""
    return "; did you mean: " + ", ".join(names[name] for name in near[:5]) + "?"
