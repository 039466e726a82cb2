"""What goes along with pictures, as a CSV file beside them."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a table as CSV: UTF-8, a header, every text in quotes.

    Texts are strangers': quotes, commas and line breaks in them come back as they were, from
    readers that open the file with `newline=""`.

    Args:
        path: of a local file.
        columns: in their order.
        rows: each with all of the columns; None is an empty text.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        # A lone carriage return in a text would be written bare, were only some texts in quotes.
        writer = csv.DictWriter(file, columns, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(rows)


def read_first_column(content: bytes) -> list[str]:
    """The first value of every row of a file that `write_csv` wrote, without the header.

    Raises:
        csv.Error: it is no such file any more.
        ValueError: likewise.
    """
    csv.field_size_limit(sys.maxsize)  # a title may be of any length
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    return [row[0] for row in rows if row][1:]
