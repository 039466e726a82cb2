"""The predictions as a CSV file for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from croplake import storage
from croplake import tables as t

PREDICTIONS_CSV: Final = "predictions_csv"
"""The folder of a lake where the CSVs lie, one a run."""


def csv_columns(top: int) -> list[str]:
    """The CSV's columns.

    `category` and `probability` are the best guess, `category_2` and `probability_2` the second
    best, and so on to `top`.
    """
    columns = [t.PATH, t.STATUS, t.DETAIL, t.WIDTH_PX, t.HEIGHT_PX, t.CATEGORY, t.PROBABILITY]
    for place in range(2, top + 1):
        columns += [f"{t.CATEGORY}_{place}", f"{t.PROBABILITY}_{place}"]
    return columns


def write_csv(rows: Iterable[Mapping[str, Any]], uri: str, *, top: int) -> int:
    """Writes predictions as CSV: UTF-8, a header, one row per photo, probabilities to six digits.

    The file appears whole or not at all; an older one is replaced.

    Args:
        rows: with the columns of `tables.PREDICTIONS`, in the order they are to stand;
            `probabilities` is a mapping or a list of pairs.
        uri: path or address of the file.
        top: guesses that have columns.

    Returns:
        The number of rows written.
    """
    num_rows = 0
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "predictions.csv")
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, csv_columns(top), lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow(_flatten(row, top))
                num_rows += 1
        storage.upload_file(part, uri)
    return num_rows


def drop_rows(uri: str, marks: Sequence[str]) -> int:
    """Takes photos out of a file that `write_csv` wrote; it stays as it is where it has none.

    Args:
        uri: path or address of the file.
        marks: a row goes if its path contains one.

    Returns:
        The number of rows that went.
    """
    num_dropped = 0
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "predictions.csv")
        with (
            io.TextIOWrapper(storage.open_input(uri), encoding="utf-8", newline="") as before,
            part.open("w", encoding="utf-8", newline="") as file,
        ):
            rows, writer = csv.reader(before), csv.writer(file, lineterminator="\n")
            header = next(rows, [])
            writer.writerow(header)
            for row in rows:
                if any(mark in row[header.index(t.PATH)] for mark in marks):
                    num_dropped += 1
                else:
                    writer.writerow(row)
        if num_dropped:
            storage.upload_file(part, uri)
    return num_dropped


def _flatten(row: Mapping[str, Any], top: int) -> dict[str, Any]:
    flat = {name: row[name] for name in (t.PATH, t.STATUS, t.DETAIL, t.WIDTH_PX, t.HEIGHT_PX)}
    guesses = dict(row[t.PROBABILITIES] or {})
    # A map has no order of its own once a table has stored it.
    ranked = sorted(guesses.items(), key=lambda guess: -guess[1])[:top]
    for place, (category, probability) in enumerate(ranked, start=1):
        suffix = "" if place == 1 else f"_{place}"
        flat[t.CATEGORY + suffix] = category
        flat[t.PROBABILITY + suffix] = f"{probability:.6f}"
    return flat
