"""What landed, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text


def make_console() -> Console:
    """Standard output for people: names and titles are strangers' texts, so none is markup."""
    return Console(markup=False)


def warn(console: Console, text: str) -> None:
    """Says what somebody should look at."""
    console.print(text, style="yellow", highlight=False, soft_wrap=True)


def titled(title: str, table: Table) -> Group:
    """A table below its title; Rich's own would break where the table is narrower than it."""
    return Group(Text(title, style="italic", overflow="fold"), table)


def print_counts(console: Console, title: str, counts: Mapping[str, int]) -> None:
    """Prints one count a line."""
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("rows", justify="right")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    console.print(titled(title, table))


def print_crosstab(
    console: Console,
    title: str,
    row_name: str,
    cells: Mapping[tuple[str, str], int],
    *,
    first: str,
) -> None:
    """Prints counts by row and column, with sums.

    Args:
        console: where to.
        title: above the table.
        row_name: heading of the rows' names.
        cells: count by row and column name.
        first: the column that stands first where there is one.
    """
    columns = sorted({column for _, column in cells}, key=lambda column: (column != first, column))
    table = Table(show_footer=True)
    sums = [sum(n for (_, c), n in cells.items() if c == column) for column in columns]
    table.add_column(row_name, footer="all")
    for column, total in zip(columns, sums, strict=True):
        table.add_column(column, justify="right", footer=f"{total:,}")
    for row in sorted({row for row, _ in cells}):
        table.add_row(row, *(f"{cells.get((row, column), 0):,}" for column in columns))
    console.print(titled(title, table))
