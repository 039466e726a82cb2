"""A whole lake by hand: four photos, seven boxes, two datasets, a model; all invariants hold."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image
from pyspark.sql import DataFrame, SparkSession

from croplake import tables as t
from croplake.conf import Settings
from croplake.jobs.fetch_plan import recipe_of
from croplake.lake import Lake, spark_schema
from croplake.tables import Table
from tests.jobs.world import APPLE, LAKE_FOLDER, PEAR, hand_made_settings

PHOTO_A, PHOTO_B, PHOTO_C, PHOTO_D = (f"{number:016x}" for number in (10, 11, 12, 13))
SUBSETS = {PHOTO_A: "train", PHOTO_B: "train", PHOTO_C: "validation", PHOTO_D: "test"}
BOXES = {
    "a1": (PHOTO_A, APPLE),
    "a2": (PHOTO_A, PEAR),
    "b1": (PHOTO_B, APPLE),
    "b2": (PHOTO_B, PEAR),
    "c1": (PHOTO_C, APPLE),
    "c2": (PHOTO_C, PEAR),
    "d1": (PHOTO_D, APPLE),
}
"""Box id to photo and class; the photo of d1 is gone."""
CATEGORIES = {APPLE: "Apple", PEAR: "Pear"}
FETCHED_AT = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
MODEL_ID = "fruit-r4"
ATTRIBUTION = {
    t.LICENSE: "https://creativecommons.org/licenses/by/2.0/",
    t.AUTHOR: "Ann",
    t.AUTHOR_URL: "https://www.flickr.com/people/ann/",
    t.TITLE: "Plain",
    t.LANDING_URL: "https://www.flickr.com/photos/ann/1",
}
CORNERS = {t.X_MIN: 0.1, t.X_MAX: 0.6, t.Y_MIN: 0.2, t.Y_MAX: 0.9}
FLAGS = dict.fromkeys(t.FLAGS, 0)


@dataclass(frozen=True)
class SmallLake:
    """The lake and the settings that go with it."""

    lake: Lake
    settings: Settings
    spark: SparkSession

    @property
    def folder(self) -> Path:
        return Path(self.settings.lake.root)

    @property
    def conf(self) -> str:
        """The settings as a file."""
        file = self.folder.parent / "small.json"
        file.write_text(self.settings.model_dump_json())
        return str(file)

    def add(self, table: Table, *rows: dict[str, Any]) -> None:
        self.lake.add_rows(_of_table(table, rows), table)

    def put(self, table: Table, *rows: dict[str, Any], where: str | None = None) -> None:
        self.lake.put_rows(_of_table(table, rows), table, where=where)

    def frame(self, table: Table, *rows: dict[str, Any]) -> DataFrame:
        tuples = [tuple(row.get(name) for name in table.columns) for row in rows]
        return self.spark.createDataFrame(tuples, spark_schema(table.schema)).coalesce(1)

    def crop(self, box_id: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
        return crop_row(box_id, recipe_of(self.settings.fetch).recipe_id) | changes

    def example(self, box_id: str, dataset: str = "fruit", **changes: Any) -> dict[str, Any]:  # noqa: ANN401
        crop = self.crop(box_id)
        key = f"{dataset}|{crop[t.RECIPE_ID]}|{box_id}"
        mid: str = crop[t.LABEL_MID]
        row = {
            **crop,
            **FLAGS,
            t.DATASET: dataset,
            t.SUBSET: SUBSETS[crop[t.IMAGE_ID]],
            t.SPLIT: SUBSETS[crop[t.IMAGE_ID]],
            t.EXAMPLE_ID: hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(),
            t.LABEL_INDEX: 1 if dataset == "fruit" and mid == PEAR else 0,
            t.CATEGORY: CATEGORIES[mid],
            t.IMAGE: crop[t.JPEG],
            t.BOX_AREA_FRAC: 0.35,
        }
        return row | changes

    def run(self, run_id: str, job: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
        row = {
            t.RUN_ID: run_id,
            t.JOB: job,
            t.DATASET: "fruit",
            t.SETTINGS: self.settings.model_dump_json(),
            t.SETTINGS_HASH: "0",
            t.TABLES_READ: {},
            t.TABLES_WRITTEN: {},
            t.COUNTS: {},
            t.STARTED_AT: FETCHED_AT,
            t.ENDED_AT: FETCHED_AT,
            t.OUTCOME: "done",
        }
        return row | changes


def _of_table(table: Table, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the table has of each row."""
    return [{name: row.get(name) for name in table.columns} for row in rows]


def jpeg_of(box_id: str) -> bytes:
    """A picture of 30 × 20 px of the box's own colour."""
    buffer = io.BytesIO()
    colour = tuple(hashlib.sha256(box_id.encode()).digest()[:3])
    Image.new("RGB", (30, 20), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def crop_row(box_id: str, recipe_id: str) -> dict[str, Any]:
    image_id, mid = BOXES[box_id]
    row: dict[str, Any] = {
        t.RECIPE_ID: recipe_id,
        t.HAS_CROP: True,
        t.BOX_ID: box_id,
        t.IMAGE_ID: image_id,
        t.LABEL_MID: mid,
        **CORNERS,
        t.STATUS: "ok",
        t.JPEG: jpeg_of(box_id),
        t.WIDTH_PX: 30,
        t.HEIGHT_PX: 20,
        t.PHOTO_WIDTH_PX: 60,
        t.PHOTO_HEIGHT_PX: 30,
        t.SOURCE_BOX_WIDTH_PX: 30,
        t.SOURCE_BOX_HEIGHT_PX: 20,
        t.SOURCE: "mirror",
        t.ATTEMPT: 1,
        t.PHOTO_SHA256: hashlib.sha256(image_id.encode()).hexdigest(),
        **ATTRIBUTION,
        t.FETCHED_AT: FETCHED_AT,
        t.RUN_ID: "r2",
    }
    if image_id == PHOTO_D:
        gone = {
            t.HAS_CROP: False,
            t.STATUS: "not_found",
            t.DETAIL: "404",
            t.JPEG: None,
            t.WIDTH_PX: None,
            t.HEIGHT_PX: None,
            t.PHOTO_SHA256: None,
        }
        row |= gone
    return row


def class_row(mid: str) -> dict[str, Any]:
    counts = dict.fromkeys((t.NUM_BOXES_TRAIN, t.NUM_BOXES_VALIDATION, t.NUM_BOXES_TEST), 2)
    return {t.LABEL_MID: mid, t.CLASS_NAME: CATEGORIES[mid], t.PARENT_MIDS: [], **counts}


def make_small_lake(spark: SparkSession, folder: Path) -> SmallLake:
    settings = hand_made_settings(folder)
    small = SmallLake(Lake(spark, settings.lake.root), settings, spark)
    small.lake.mark()
    subsets = SUBSETS.items()
    small.add(t.CLASSES, *(class_row(mid) for mid in CATEGORIES))
    small.add(t.PHOTOS, *({t.IMAGE_ID: i, t.SUBSET: s, **ATTRIBUTION} for i, s in subsets))
    boxes: list[dict[str, Any]] = [
        {t.BOX_ID: b, t.IMAGE_ID: i, t.SUBSET: SUBSETS[i], t.LABEL_MID: m, **CORNERS, **FLAGS}
        for b, (i, m) in BOXES.items()
    ]
    small.add(t.BOXES, *boxes)
    for dataset, mids in (("fruit", (APPLE, PEAR)), ("pears", (PEAR,))):
        selected = [
            row | {t.DATASET: dataset, t.CATEGORY: CATEGORIES[row[t.LABEL_MID]]}
            for row in boxes
            if row[t.LABEL_MID] in mids
        ]
        small.add(t.SELECTED_BOXES, *selected)
    # Two chunks, as fetching commits them.
    small.add(t.CROPS, *(small.crop(box_id) for box_id in ("a1", "a2", "b1", "b2")))
    small.add(t.CROPS, *(small.crop(box_id) for box_id in ("c1", "c2", "d1")))
    small.add(t.EXAMPLES, *(small.example(b) for b in ("a1", "a2", "b1", "b2", "c1", "c2")))
    small.add(t.EXAMPLES, *(small.example(b, "pears") for b in ("a2", "b2", "c2")))
    group = {t.DATASET: "fruit", t.GROUP_ID: PHOTO_A}
    small.add(t.NEAR_DUPLICATES, *(group | {t.IMAGE_ID: i} for i in (PHOTO_A, PHOTO_B)))
    add_runs(small)
    (small.folder / "models" / MODEL_ID).mkdir(parents=True)
    (small.folder / "models" / MODEL_ID / "labels.json").write_text(json.dumps(["Apple", "Pear"]))
    return small


def add_runs(small: SmallLake) -> None:
    versions = {
        "r1": ("select_boxes", {}, {t.SELECTED_BOXES: 1}),
        "r2": ("fetch_crops", {t.SELECTED_BOXES: 1}, {t.CROPS: 1}),
        "r3": ("build_examples", {t.SELECTED_BOXES: 1, t.CROPS: 1}, {t.EXAMPLES: 1}),
        "r4": ("train_classifier", {t.EXAMPLES: 1}, {}),
    }
    small.add(
        t.RUNS,
        *(
            small.run(
                run_id,
                job,
                **{
                    t.TABLES_READ: {table.name: version for table, version in read.items()},
                    t.TABLES_WRITTEN: {table.name: version for table, version in written.items()},
                    t.MODEL_ID: MODEL_ID if job == "train_classifier" else None,
                },
            )
            for run_id, (job, read, written) in versions.items()
        ),
    )


def copy_small_lake(original: SmallLake, folder: Path) -> SmallLake:
    """A lake of a test's own."""
    shutil.copytree(original.folder, folder / LAKE_FOLDER)
    settings = hand_made_settings(folder)
    return SmallLake(Lake(original.spark, settings.lake.root), settings, original.spark)
