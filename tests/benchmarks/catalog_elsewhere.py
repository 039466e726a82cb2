"""The catalog made with pandas or DuckDB: parse, type, Parquet, 20 classes with their photos.

A script of its own that needs nothing of croplake:
`python catalog_elsewhere.py pandas|duckdb CSVS OUT MID…`
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

BOXES = "*annotations-bbox.csv"
PHOTOS = "*images*with-rotation.csv"
FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
NUMBERS = ("Confidence", "XMin", "XMax", "YMin", "YMax")
TEXTS = ("ImageID", "Source", "LabelName")


def with_pandas(csvs: Path, out: Path, mids: list[str]) -> None:
    """pandas with its C parser."""
    import pandas as pd

    types = dict.fromkeys(TEXTS, "str") | dict.fromkeys(NUMBERS, "float64")
    types |= dict.fromkeys(FLAGS, "int8")
    parts = [
        pd.read_csv(path, usecols=list(types), dtype=types) for path in sorted(csvs.glob(BOXES))
    ]
    boxes = pd.concat(parts, ignore_index=True)
    del parts
    boxes.to_parquet(out / "boxes.parquet")
    photos = pd.concat(
        [pd.read_csv(path, dtype={"ImageID": str}) for path in sorted(csvs.glob(PHOTOS))],
        ignore_index=True,
    )
    photos.to_parquet(out / "photos.parquet")
    picked = boxes[boxes["LabelName"].isin(mids)].merge(photos, on="ImageID")
    picked.to_parquet(out / "picked.parquet")


def with_duckdb(csvs: Path, out: Path, mids: list[str]) -> None:
    """DuckDB with its own parser and writer."""
    import duckdb

    columns = ", ".join([*TEXTS, *(f"{name}::DOUBLE AS {name}" for name in NUMBERS)])
    flags = ", ".join(f"{name}::TINYINT AS {name}" for name in FLAGS)
    listed = ", ".join(f"'{mid}'" for mid in mids)
    read_boxes = f"SELECT {columns}, {flags} FROM read_csv('{csvs}/{BOXES}', union_by_name=true)"  # noqa: S608
    read_photos = f"SELECT * FROM read_csv('{csvs}/{PHOTOS}', union_by_name=true)"  # noqa: S608
    pick = (
        f"SELECT * FROM '{out}/boxes.parquet' JOIN '{out}/photos.parquet' USING (ImageID) "  # noqa: S608
        f"WHERE LabelName IN ({listed})"
    )
    db = duckdb.connect()
    for name, query in (("boxes", read_boxes), ("photos", read_photos), ("picked", pick)):
        db.execute(f"COPY ({query}) TO '{out}/{name}.parquet'")


if __name__ == "__main__":
    tool, csvs, out, *mids = sys.argv[1:]
    importlib.import_module(tool)  # no part of the work
    started = time.monotonic()
    {"pandas": with_pandas, "duckdb": with_duckdb}[tool](Path(csvs), Path(out), mids)
    Path(out, "seconds.txt").write_text(str(time.monotonic() - started))
