"""Rows and manifests by hand for the tests of exports."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from PIL import Image

from croplake import tables as t
from croplake.export.names import folder_names
from croplake.export.plan import Format, Label, Manifest, Shard
from croplake.export.rows import KEY, ROWS_SCHEMA, SHARD
from croplake.export.task import write_shards

Row = dict[str, Any]
ODD_TEXT = 'He said "no",\r\nthen; \r =1+1 – 你好 \\'


def jpeg(seed: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (12, 8), (seed * 40 % 256, 80, 160)).save(content, "JPEG")
    return content.getvalue()


def picture(number: int, **changes: Any) -> Row:  # noqa: ANN401
    row = {
        SHARD: 0,
        KEY: f"{number:032x}",
        t.SPLIT: "train",
        t.LABEL_INDEX: 0,
        t.CATEGORY: "Apple",
        t.LICENSE: "https://creativecommons.org/licenses/by/2.0/",
        t.AUTHOR: "Ann",
        t.AUTHOR_URL: "https://www.flickr.com/people/ann/",
        t.TITLE: ODD_TEXT,
        t.LANDING_URL: f"https://www.flickr.com/photos/ann/{number}",
        t.IMAGE_ID: f"{number:016x}",
        t.SUBSET: "train",
        t.BOX_ID: f"{number + 100:032x}",
        t.WIDTH_PX: 12,
        t.HEIGHT_PX: 8,
        **dict.fromkeys(t.FLAGS, 0),
        t.IMAGE: jpeg(number),
    }
    return row | changes


def manifest_of(rows: list[Row], format: Format, *categories: str) -> Manifest:
    """The plan of an export of rows whose shards are numbered within their split."""
    names = categories or tuple(sorted({row[t.CATEGORY] for row in rows}))
    folders = folder_names(names)
    splits = {row[SHARD]: row[t.SPLIT] for row in rows}
    shards = []
    for place in sorted(splits):
        same = [other for other in sorted(splits) if splits[other] == splits[place]]
        num_rows = sum(row[SHARD] == place for row in rows)
        shards.append(
            Shard(place, splits[place], same.index(place), len(same), num_rows, digest="1")
        )
    return Manifest(
        format=format,
        of="examples",
        dataset="fruit",
        tables={"examples": "id"},
        versions={"examples": 3},
        recipe_id=None,
        buckets={split: 1 for split in splits.values()},
        labels=tuple(Label(index, name, folders[name]) for index, name in enumerate(names)),
        shards=tuple(shards),
    )


def write(rows: list[Row], into: str, manifest: Manifest) -> list[str | None]:
    """Writes the shards as a task does; gives the error of each."""
    written: Iterator[pa.RecordBatch] = write_shards(
        iter([pa.RecordBatch.from_pylist(rows, schema=ROWS_SCHEMA)]), into=into, manifest=manifest
    )
    return [error for batch in written for error in batch.column("error").to_pylist()]
