"""The class hierarchy as a graph: what lies below a class, and where a class lies."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from croplake.catalog.classes import ClassEntry


class Hierarchy:
    """Subcategories of the listed classes: a DAG, as a class may have several parents.

    Attributes:
        entries: MID to class, in the list's order.
    """

    def __init__(self, classes: Sequence[ClassEntry]) -> None:
        self.entries = {entry.mid: entry for entry in classes}
        self._children: dict[str, list[ClassEntry]] = {entry.mid: [] for entry in classes}
        for entry in classes:
            for parent in entry.parent_mids:
                # The root stands in no list.
                if parent in self._children:
                    self._children[parent].append(entry)
        for children in self._children.values():
            children.sort(key=lambda entry: entry.name)

    def children(self, mid: str) -> Sequence[ClassEntry]:
        """The classes right below one, by name."""
        return self._children[mid]

    def parents(self, mid: str) -> list[ClassEntry]:
        """The listed classes right above one, by name."""
        listed = (
            self.entries[parent]
            for parent in self.entries[mid].parent_mids
            if parent in self.entries
        )
        return sorted(listed, key=lambda entry: entry.name)

    def roots(self) -> list[ClassEntry]:
        """The classes without a listed parent, by name."""
        tops = (entry for entry in self.entries.values() if not self.parents(entry.mid))
        return sorted(tops, key=lambda entry: entry.name)

    def below(self, mid: str) -> dict[str, int]:
        """A class and all below it, each with the least number of steps down to it."""
        steps = {mid: 0}
        waiting = deque([mid])
        while waiting:
            above = waiting.popleft()
            for child in self._children[above]:
                if child.mid not in steps:
                    steps[child.mid] = steps[above] + 1
                    waiting.append(child.mid)
        return steps

    def paths(self, mid: str) -> list[tuple[str, ...]]:
        """All ways from the top down to a class, as names that end with its own, sorted."""
        entry = self.entries[mid]
        above = [path for parent in self.parents(mid) for path in self.paths(parent.mid)]
        return sorted((*path, entry.name) for path in above or [()])
