"""What Spark and Delta cost `fetch_crops`: the job against the same executor code without them.

Both download the same photos from the miniature world's hosts, in a process of their own on the
same cores, and cut the same boxes. The yardstick feeds one process per core; it commits nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.conf import Settings, SparkConf
from croplake.fetching.batches import PartitionFetcher
from croplake.fetching.photo_task import FetchRules
from croplake.jobs.context import JobContext
from croplake.jobs.fetch_crops import recipe_of
from croplake.lake import Lake
from croplake.miniature import MiniatureServer, World, build_world
from croplake.selection.todo import box_states, boxes_to_fetch, photo_tasks
from croplake.session import spark_session
from tests.benchmarks.report import FOLDER, Rounds, publish
from tests.jobs.world import miniature_settings, run

NUM_PHOTOS = 1500
NUM_ROUNDS = 5
NUM_CORES = len(os.sched_getaffinity(0))


@contextmanager
def served(world: World) -> Iterator[MiniatureServer]:
    """The world's hosts in a process of their own, so that they share no interpreter lock."""
    code = (
        "import sys; from pathlib import Path; from croplake.miniature import *\n"
        "world = build_world(Path(sys.argv[1]), num_photos=int(sys.argv[2]), seed=17)\n"
        "with serve_world(world) as server: print(server.address, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(world.root), str(world.num_photos)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the server has no standard output")
        yield MiniatureServer(world, process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()


def write_tasks(spark: SparkSession, settings: Settings, folder: Path) -> list[str]:
    """The photos to fetch, one file a core."""
    lake = Lake(spark, settings.lake.root)
    lake.create(t.CROPS)
    selected = lake.read(t.SELECTED_BOXES).where(F.col(t.DATASET) == settings.dataset.name)
    states = box_states(lake.read(t.CROPS), recipe_of(settings.fetch).recipe_id)
    boxes = boxes_to_fetch(selected, states, settings.fetch)
    tasks = photo_tasks(boxes, lake.read(t.PHOTOS), NUM_CORES)
    tasks.repartition(NUM_CORES, t.IMAGE_ID).write.parquet(str(folder))
    return [str(file) for file in folder.glob("*.parquet")]


def fetch_alone(fetcher: PartitionFetcher, file: str) -> int:
    """One process's part: photos in, crops counted."""
    batches = pq.ParquetFile(file).iter_batches(64)
    return sum(batch.num_rows for batch in fetcher(batches))


def without_spark(context: JobContext, files: list[str]) -> float:
    """Photos a second of the executor code alone."""
    conf = context.settings.fetch
    rules = FetchRules(
        recipe_of(conf), conf.sources, conf.mirror_url, conf.max_photo_pixels, "bench"
    )
    fetcher = PartitionFetcher(rules, context.http_limits(), conf.transfers_per_task)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(NUM_CORES, mp_context=spawn) as pool:
        list(pool.map(len, [""] * NUM_CORES))  # their start is not what is measured
        started = time.monotonic()
        list(pool.map(fetch_alone, [fetcher] * len(files), files))
        seconds = time.monotonic() - started
    num_photos = sum(int(pq.ParquetFile(file).metadata.num_rows) for file in files)
    return num_photos / seconds


def with_spark(spark: SparkSession, settings: Settings) -> float:
    """Photos a second of the whole job, planning and commits included, into a fresh lake."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        shutil.copytree(settings.lake.root, f"{folder}/lake")
        lake = settings.lake.model_copy(update={"root": f"{folder}/lake"})
        started = time.monotonic()
        context = run(spark, "fetch_crops", settings.model_copy(update={"lake": lake}))
        seconds = time.monotonic() - started
    return context.counts["photos fetched or tried"] / seconds


def main() -> None:
    """Measures in turns and publishes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    world = build_world(FOLDER / "world", num_photos=NUM_PHOTOS, seed=17)
    with (
        tempfile.TemporaryDirectory(dir=FOLDER) as folder,
        served(world) as server,
        spark_session("bench", SparkConf()) as spark,
    ):
        settings = miniature_settings(world, server, Path(folder))
        run(spark, "ingest_catalog", settings)
        context = run(spark, "select_boxes", settings)
        files = write_tasks(spark, settings, Path(folder, "tasks"))
        shutil.rmtree(Path(settings.lake.root, t.CROPS.name))
        rounds = Rounds("photos/s")
        rounds.measure(
            {
                "executor code without Spark": lambda: without_spark(context, files),
                "fetch_crops, Delta commits included": lambda: with_spark(spark, settings),
            },
            NUM_ROUNDS,
        )
    publish("fetch", rounds, [], ["pyspark", "delta-spark", "pillow", "requests", "pyarrow"])


if __name__ == "__main__":
    main()
