"""`croplake classes`: the catalog's classes, their place in the hierarchy, their boxes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from croplake import open_lake
from croplake import tables as t
from croplake.catalog.classes import ClassEntry, read_classes
from croplake.catalog.formats import SUBSETS
from croplake.catalog.hierarchy import Hierarchy
from croplake.catalog.picker import match_classes
from croplake.conf.loading import load_settings
from croplake.jobs.entry import add_conf_arguments
from croplake.summary import make_console

_ARROW: Final = " › "


def add_classes_command(commands: Any, epilog: str) -> None:  # noqa: ANN401  # argparse names none
    """Adds `croplake classes`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "classes",
        help="lists the catalog's classes: place in the hierarchy, boxes of each subset",
        epilog=epilog,
    )
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        metavar="PATTERN",
        help="name, MID, glob or keyword ('*noodle*'), subtree ('Vehicle/**'), or all; as in a "
        "dataset's classes",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--tree", action="store_true", help="draws what lies below the classes")
    form.add_argument("--json", action="store_true", help="a list of objects, nothing else")
    parser.set_defaults(run=_run)
    add_conf_arguments(parser)


def _run(arguments: argparse.Namespace) -> None:
    settings = load_settings(arguments.conf, arguments.overrides)
    rows = open_lake(settings.lake.root).dataset(t.CLASSES.name).to_table().to_pylist()
    hierarchy = Hierarchy(read_classes(rows))
    found = match_classes(arguments.pattern, hierarchy)
    if arguments.json:
        print(json.dumps([_plain(entry, hierarchy) for entry in found], indent=2))  # noqa: T201
    elif arguments.tree:
        for tree in trees_of(found, hierarchy):
            make_console().print(tree)
    else:
        make_console().print(table_of(found, hierarchy))


def table_of(found: Sequence[ClassEntry], hierarchy: Hierarchy) -> Table:
    """One line a class; a class with several parents has several places."""
    table = Table()
    table.add_column("class", overflow="fold")
    table.add_column("MID", no_wrap=True)
    for subset in SUBSETS:
        table.add_column(subset, justify="right", no_wrap=True)
    table.add_column("below", overflow="fold")
    for entry in found:
        boxes = entry.num_boxes_by_subset or {}
        counts = (f"{boxes.get(subset, 0):,}" for subset in SUBSETS)
        table.add_row(entry.name, entry.mid, *counts, "\n".join(_places(entry, hierarchy)))
    return table


def trees_of(found: Sequence[ClassEntry], hierarchy: Hierarchy) -> list[Tree]:
    """The subtrees of classes, without those that lie in another one of them.

    A class with several parents stands below each; what is below it is drawn once.
    """
    inside = {
        mid for entry in found for mid, steps in hierarchy.below(entry.mid).items() if steps > 0
    }
    drawn: set[str] = set()
    trees = []
    for entry in found:
        if entry.mid not in inside:
            tree = Tree(_label(entry), guide_style="dim", highlight=False)
            _draw(tree, entry, hierarchy, drawn)
            trees.append(tree)
    return trees


def _draw(tree: Tree, entry: ClassEntry, hierarchy: Hierarchy, drawn: set[str]) -> None:
    drawn.add(entry.mid)
    for child in hierarchy.children(entry.mid):
        if child.mid in drawn and hierarchy.children(child.mid):
            tree.add(_label(child) + Text(" (drawn above)", "dim"))
        else:
            _draw(tree.add(_label(child)), child, hierarchy, drawn)


def _label(entry: ClassEntry) -> Text:
    return Text(f"{entry.name} ") + Text(f"{entry.num_boxes or 0:,}", "dim")


def _places(entry: ClassEntry, hierarchy: Hierarchy) -> list[str]:
    return [_ARROW.join(path[:-1]) for path in hierarchy.paths(entry.mid)]


def _plain(entry: ClassEntry, hierarchy: Hierarchy) -> dict[str, Any]:
    return {
        "mid": entry.mid,
        "name": entry.name,
        "paths": [list(path) for path in hierarchy.paths(entry.mid)],
        "num_boxes": dict(entry.num_boxes_by_subset or {}),
    }
