"""The `croplake` command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.table import Table

from croplake import __version__, open_lake
from croplake.care.entry import add_care_commands
from croplake.catalog.listing import add_classes_command
from croplake.conf.loading import load_settings
from croplake.jobs.entry import (
    COMMAND_SUMMARIES,
    add_command_arguments,
    add_conf_arguments,
    guarded,
    run_named,
)
from croplake.model_export.entry import add_export_model_command
from croplake.reader import TableInfo
from croplake.summary import make_console, titled

_EXIT_CODES = (
    "exit codes: 0 done, 2 bad arguments or settings, 3 incomplete but resumable, "
    "4 bad input data or a broken lake, 5 table held by another writer"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments; None takes the process's.

    Returns:
        The exit code.
    """
    arguments = _parser().parse_args(argv)
    if "run" in arguments:
        return guarded(lambda: arguments.run(arguments))
    name = arguments.command.replace("-", "_")
    return guarded(lambda: run_named(name, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="croplake", epilog=_EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"croplake {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="all of the jobs below in order; goes on where it stopped"
    )
    add_conf_arguments(run)
    for name, summary in COMMAND_SUMMARIES.items():
        add_command_arguments(commands.add_parser(name, help=summary, epilog=_EXIT_CODES), name)
    add_classes_command(commands, _EXIT_CODES)
    add_export_model_command(commands, _EXIT_CODES)
    lake = commands.add_parser("lake", help="looks at the lake and takes care of it")
    parts = lake.add_subparsers(dest="part", required=True, metavar="WHAT")
    tables = parts.add_parser("tables", help="every table: version, rows, bytes, age")
    tables.set_defaults(run=_print_tables)
    add_conf_arguments(tables)
    tables.add_argument("--json", action="store_true", help="a list of objects, nothing else")
    add_care_commands(parts, _EXIT_CODES)
    return parser


def _print_tables(arguments: argparse.Namespace) -> None:
    settings = load_settings(arguments.conf, arguments.overrides)
    infos = open_lake(settings.lake.root).tables()
    if arguments.json:
        print(json.dumps([_plain(info) for info in infos], indent=2))  # noqa: T201
        return
    console = make_console()
    if not infos:
        console.print(f"{settings.lake.root}: no tables yet; croplake run makes them")
        return
    table = Table()
    table.add_column("name")
    for column in ("version", "rows", "bytes", "changed_at"):
        table.add_column(column, justify="right")
    table.add_column("path", overflow="fold")
    for info in infos:
        age = f"{info.changed_at:%Y-%m-%d %H:%M:%S}"
        numbers = (str(info.version), f"{info.rows:,}", f"{info.bytes:,}", age)
        table.add_row(info.name, *numbers, info.path)
    console.print(titled(settings.lake.root, table))


def _plain(info: TableInfo) -> dict[str, str | int]:
    return {
        "name": info.name,
        "path": info.path,
        "version": info.version,
        "rows": info.rows,
        "bytes": info.bytes,
        "changed_at": info.changed_at.isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
