"""A lake that is ready for `fetch_crops`, and a timed run of the job through its settings."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.jobs.context import JobContext
from croplake.jobs.fetch_chunks import fetch_chunks
from croplake.jobs.fetch_plan import FetchPlan
from croplake.lake import Lake, conform, spark_schema
from croplake.tables import Table
from tests.benchmarks.lean import JPEG_QUALITY
from tests.benchmarks.nginx import ADDRESS, FILE_DIGITS, Nginx
from tests.benchmarks.photos import NUM_FILES
from tests.benchmarks.processes import cpu_s
from tests.benchmarks.workload import Workload
from tests.jobs.world import APPLE, LAKE_FOLDER, hand_made_settings, run

DOMAIN: Final = "croplake.test"
HOST: Final = f"photos.{DOMAIN}"
DATASET: Final = "benchmark"


def fetch_values(workload: Workload, nginx: Nginx, door: str) -> dict[str, Any]:
    """The `fetch` section: everything of the settings that differs from what croplake ships."""
    scheme = door.removeprefix("slow_")
    return {
        "sources": ["mirror"],
        "mirror_url": f"{scheme}://{HOST}/photos/{{subset}}/{{image_id}}.jpg",
        "connect_to": {HOST: f"{ADDRESS}:{nginx.ports[door]}"},
        "recipe": {
            "padding_frac": 0.0,
            "max_side_px": workload.max_side_px,
            "jpeg_quality": JPEG_QUALITY,
        },
        # What the settings ship for the mirror, given to the host that stands for it.
        "hosts": {"*": {"transfers": 32}, DOMAIN: {"transfers": 1024}},
        "private_hosts": [HOST],
        "ca_file": str(nginx.ca_file),
    }


@dataclass(frozen=True)
class PreparedLake:
    """A lake with catalog and selected boxes, and no crops.

    Attributes:
        folder: holds it; each run works on a copy.
        workload: what is in it.
    """

    folder: Path
    workload: Workload


@dataclass(frozen=True)
class Fetched:
    """A run of the job.

    Attributes:
        seconds: of the whole job, planning and summary included.
        fetching_seconds: from the first chunk's start to the last commit of crops, by the job's own
            record: without planning before and summary after.
        num_photos: all of them, with all their crops.
        cpu_s: CPU time of the same span, by role of the processes, the server's among them.
    """

    seconds: float
    fetching_seconds: float
    num_photos: int
    cpu_s: Counter[str] = field(default_factory=Counter)

    @property
    def photos_per_s(self) -> float:
        """The rate of fetching, cutting and committing."""
        return self.num_photos / self.fetching_seconds

    @property
    def whole_photos_per_s(self) -> float:
        """The rate of the whole job, planning and summary included."""
        return self.num_photos / self.seconds


def prepare_lake(spark: SparkSession, folder: Path, workload: Workload) -> PreparedLake:
    """Writes `photos` and `selected_boxes` as ingest_catalog and select_boxes would leave them."""
    lake = Lake(spark, str(folder / LAKE_FOLDER))
    digits = F.lpad((F.col("id") % NUM_FILES).cast("string"), FILE_DIGITS, "0")
    head = F.lpad(F.lower(F.hex("id")), 16 - FILE_DIGITS, "0")
    image_id = F.concat(head, digits).alias(t.IMAGE_ID)
    ids = spark.range(workload.num_photos).select(image_id)
    ids = ids.withColumn(t.SUBSET, F.lit(workload.subset))
    lake.append(_filled(_with_facts(ids), t.PHOTOS), t.PHOTOS)
    boxes = F.array(*(F.struct(*map(F.lit, box)) for box in workload.boxes))
    exploded = ids.select("*", F.posexplode(boxes).alias("number", "corners"))
    corners = [
        F.col(f"corners.col{place}").alias(name)
        for place, name in enumerate((t.X_MIN, t.X_MAX, t.Y_MIN, t.Y_MAX), start=1)
    ]
    selected = exploded.select(
        F.lit(DATASET).alias(t.DATASET),
        F.md5(F.concat_ws("/", t.IMAGE_ID, "number")).alias(t.BOX_ID),
        t.IMAGE_ID,
        t.SUBSET,
        F.lit(APPLE).alias(t.LABEL_MID),
        F.lit("Apple").alias(t.CATEGORY),
        *corners,
    )
    lake.append(_filled(selected, t.SELECTED_BOXES), t.SELECTED_BOXES)
    return PreparedLake(folder, workload)


def fetch_crops(
    spark: SparkSession, prepared: PreparedLake, nginx: Nginx, door: str, folder: Path
) -> Fetched:
    """Runs the job once on a fresh copy of the lake.

    Args:
        spark: the session; its start is not what is measured.
        prepared: the lake.
        nginx: the photos' server.
        door: `http`, `https`, `slow_http` or `slow_https`.
        folder: where the copy goes; emptied first, kept afterwards.

    Raises:
        RuntimeError: a crop is missing.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared.folder, folder)
    dataset = {"name": DATASET, "classes": ["Apple"]}
    workload = prepared.workload
    values = fetch_values(workload, nginx, door)
    settings = hand_made_settings(folder, dataset=dataset, fetch=values)
    used: Counter[str] = Counter()

    def counted(context: JobContext, plan: FetchPlan) -> None:
        before = cpu_s()
        fetch_chunks(context, plan)
        used.update(cpu_s())
        used.subtract(before)

    started = time.monotonic()
    with patch("croplake.jobs.fetch_crops.fetch_chunks", counted):
        context = run(spark, "fetch_crops", settings)
    seconds = time.monotonic() - started
    wanted = workload.num_photos * len(workload.boxes)
    if context.counts.get(t.STATUS_OK) != wanted:
        raise RuntimeError(f"fetch_crops: {wanted} crops expected, landed: {context.counts}")
    fetching_ms = context.counts["milliseconds from first request to last commit"]
    return Fetched(seconds, fetching_ms / 1000, workload.num_photos, used)


def warm_up(spark: SparkSession, workload: Workload, nginx: Nginx, door: str) -> None:
    """A run that nobody times: the session's start is not what is measured."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare_lake(spark, Path(folder, "prepared"), workload)
        fetch_crops(spark, prepared, nginx, door, Path(folder, "run"))


def _with_facts(ids: DataFrame) -> DataFrame:
    facts = {
        t.ROTATION_DEG: F.lit(0),
        t.LICENSE: F.lit("https://creativecommons.org/licenses/by/2.0/"),
        t.AUTHOR: F.lit("Ann"),
        t.AUTHOR_URL: F.lit("https://www.flickr.com/people/ann/"),
        t.TITLE: F.concat(F.lit("Photo "), F.col(t.IMAGE_ID)),
        t.LANDING_URL: F.concat(F.lit("https://www.flickr.com/photos/ann/"), F.col(t.IMAGE_ID)),
    }
    return ids.withColumns(facts)


def _filled(df: DataFrame, table: Table) -> DataFrame:
    """All of the table's columns in their types; null where the frame has none."""
    columns = [
        (F.col(field.name) if field.name in df.columns else F.lit(None))
        .cast(field.dataType)
        .alias(field.name)
        for field in spark_schema(table.schema).fields
    ]
    return conform(df.select(*columns), table)
