"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession

from croplake.care.pins import Readers, Run
from croplake.lake import Lake
from croplake.tables import Table

KEY: Final = "key"
_MOST_LETTERS: Final = 300


@dataclass(frozen=True)
class Scope:
    """What a check may look at.

    Attributes:
        spark: the session.
        lake: the lake.
        readers: who reads what.
        runs: the rows of `runs` by their start.
        num_keys: broken keys that are named.
    """

    spark: SparkSession
    lake: Lake
    readers: Readers
    runs: tuple[Run, ...]
    num_keys: int


@dataclass(frozen=True)
class Check:
    """A sentence about a lake that holds, or is broken by some of its keys.

    Attributes:
        name: for programs.
        says: what holds, for people.
        find: the keys that break it: a frame with the column `key`, or their list.
        needs: tables without which there is nothing to look at.
    """

    name: str
    says: str
    find: Callable[[Scope], DataFrame | Iterable[str]]
    needs: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What came of a check.

    Attributes:
        check: which.
        num_broken: keys that break it; None where it could not be looked at.
        keys: some of them.
        note: why it could not be looked at.
    """

    check: Check
    num_broken: int | None
    keys: tuple[str, ...] = ()
    note: str | None = None

    @property
    def is_broken(self) -> bool:
        """Whether some key breaks it."""
        return bool(self.num_broken)

    def plain(self) -> dict[str, Any]:
        """The finding for programs."""
        return {
            "check": self.check.name,
            "says": self.check.says,
            "holds": None if self.num_broken is None else not self.num_broken,
            "broken": self.num_broken,
            "keys": list(self.keys),
            "note": self.note,
        }


def look(check: Check, scope: Scope) -> Finding:
    """Makes one check; what cannot be read breaks it."""
    try:
        return _look(check, scope)
    # Damage reaches every corner of the readers; whatever they raise, that is what was found.
    except Exception as error:
        return Finding(check, 1, (summary_of(error),))


def summary_of(error: Exception) -> str:
    """An error's kind and the first line of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"cannot be read: {type(error).__name__}: {lines[0][:_MOST_LETTERS]}"


def _look(check: Check, scope: Scope) -> Finding:
    """Where all is well that is one pass over the rows."""
    found = check.find(scope)
    if not isinstance(found, DataFrame):
        keys = sorted(found)
        return Finding(check, len(keys), tuple(keys[: scope.num_keys]))
    rows = found.select(KEY).limit(scope.num_keys + 1).collect()
    keys = sorted(str(row[KEY]) for row in rows)
    num_broken = len(keys) if len(keys) <= scope.num_keys else found.count()
    return Finding(check, num_broken, tuple(keys[: scope.num_keys]))
