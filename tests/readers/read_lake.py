"""A downstream team's reading: today's delta-rs, pandas, Polars and DuckDB, nothing of croplake's.

`python read_lake.py ROOT` prints what each tool finds in `crops` and `examples`, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys

KEYS = {"crops": "box_id", "examples": "example_id"}
PICTURES = {"crops": "jpeg", "examples": "image"}
GROUPS = {"crops": "status", "examples": "split"}


def summary(rows: list[tuple[str, str, bytes | None]]) -> dict[str, object]:
    """Counts by group, and a hash over keys and pictures, from rows (key, group, picture)."""
    counts: dict[str, int] = {}
    digest = hashlib.sha256()
    for key, group, picture in sorted(rows, key=lambda row: row[0]):
        counts[group] = counts.get(group, 0) + 1
        digest.update(key.encode() + (picture or b""))
    return {"counts": counts, "sha256": digest.hexdigest()}


def main() -> None:
    import duckdb
    import polars as pl
    from deltalake import DeltaTable

    root = sys.argv[1]
    found: dict[str, dict[str, object]] = {}
    for name, key in KEYS.items():
        columns = [key, GROUPS[name], PICTURES[name]]
        table = DeltaTable(f"{root}/{name}")
        arrow = table.to_pyarrow_table(columns=columns)
        pandas = table.to_pandas(columns=columns)
        polars = pl.read_delta(f"{root}/{name}", columns=columns)
        files = table.file_uris()
        query = f"SELECT {', '.join(columns)} FROM read_parquet(?, hive_partitioning = true)"
        duck = duckdb.execute(query, [files]).fetchall()
        found[name] = {
            "delta-rs": summary(list(zip(*(arrow[c].to_pylist() for c in columns), strict=True))),
            "pandas": summary(
                [(k, g, p if isinstance(p, bytes) else None) for k, g, p in pandas.to_numpy()]
            ),
            "polars": summary(polars.select(columns).rows()),
            "duckdb": summary(duck),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
