"""The class list and its hierarchy: two small files read on the driver."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from croplake import tables as t
from croplake.catalog.formats import CLASSES_HEADER, Subset
from croplake.errors import InputDataError


@dataclass(frozen=True)
class ClassEntry:
    """A class of the list.

    Attributes:
        mid: `/m/…`.
        name: as published.
        parent_mids: classes it is a subcategory of; several, as the hierarchy is a DAG.
        num_boxes_by_subset: annotated boxes of each ingested subset; None before they are counted.
    """

    mid: str
    name: str
    parent_mids: tuple[str, ...] = ()
    num_boxes_by_subset: Mapping[Subset, int] | None = None

    @property
    def num_boxes(self) -> int | None:
        """Boxes over all subsets; None before they are counted."""
        if self.num_boxes_by_subset is None:
            return None
        return sum(self.num_boxes_by_subset.values())


def read_classes(rows: Iterable[Mapping[str, Any]]) -> list[ClassEntry]:
    """Rows of the table `classes` as classes, in the order of their names."""
    counts: dict[Subset, str] = {
        "train": t.NUM_BOXES_TRAIN,
        "validation": t.NUM_BOXES_VALIDATION,
        "test": t.NUM_BOXES_TEST,
    }
    entries = (
        ClassEntry(
            mid=row[t.LABEL_MID],
            name=row[t.CLASS_NAME],
            parent_mids=tuple(row[t.PARENT_MIDS]),
            num_boxes_by_subset={subset: row[column] for subset, column in counts.items()},
        )
        for row in rows
    )
    return sorted(entries, key=lambda entry: (entry.name, entry.mid))


def parse_classes(text: str, name: str) -> dict[str, str]:
    """Reads class descriptions, with a header (v7) or without (v5).

    Args:
        text: the CSV.
        name: of the file, for messages.

    Returns:
        MID to name, in the file's order.

    Raises:
        InputDataError: a row is not a MID and a name, or a MID stands twice.
    """
    classes: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text.removeprefix("\ufeff"))), start=1):
        if not row or (number == 1 and tuple(row) == CLASSES_HEADER):
            continue
        if len(row) != 2 or not row[0].startswith("/m/") or not row[1].strip():
            raise InputDataError(
                f"{name}:{number}: expected a MID (/m/…) and a name, got {','.join(row)!r}"
            )
        if row[0] in classes:
            raise InputDataError(f"{name}:{number}: {row[0]} stands twice")
        classes[row[0]] = row[1]
    if not classes:
        raise InputDataError(f"{name}: no classes in it")
    return classes


def parse_parents(text: str, name: str) -> dict[str, tuple[str, ...]]:
    """Reads the hierarchy's subcategory edges; `Part` edges (a car's wheel) are not followed.

    Args:
        text: the JSON.
        name: of the file, for messages.

    Returns:
        MID to the MIDs of its parents, sorted.

    Raises:
        InputDataError: not the hierarchy's JSON, or a class is below itself.
    """
    parents: dict[str, set[str]] = {}

    def walk(node: dict[str, Any]) -> None:
        for child in node.get("Subcategory", []):
            parents.setdefault(child["LabelName"], set()).add(node["LabelName"])
            walk(child)

    try:
        walk(json.loads(text))
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        cycle = " › ".join(error.args[1])
        raise InputDataError(f"{name}: a class is below itself: {cycle}; expected none") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputDataError(f"{name}: not the class hierarchy's JSON: {error!r}") from error
    return {mid: tuple(sorted(above)) for mid, above in parents.items()}
