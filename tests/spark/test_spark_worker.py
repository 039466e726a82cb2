from __future__ import annotations

import importlib
import zipimport
from collections.abc import Iterable, Iterator

from pyspark.sql import SparkSession

import croplake


def num_lists_read(numbers: Iterable[int]) -> Iterator[int]:
    """How many archives a look for new modules reads, in a task that has used croplake."""
    assert croplake.__version__
    read_list, read = zipimport._read_directory, list[str]()  # type: ignore[attr-defined]

    def count(archive: str) -> object:
        read.append(archive)
        return read_list(archive)

    zipimport._read_directory = count  # type: ignore[attr-defined]
    try:
        importlib.invalidate_caches()
    finally:
        zipimport._read_directory = read_list  # type: ignore[attr-defined]
    yield len(read)


def test_a_task_does_not_read_sparks_archives_again(spark: SparkSession) -> None:
    numbers = spark.sparkContext.parallelize(range(2), 2)
    assert numbers.mapPartitions(num_lists_read).collect() == [0, 0]


def test_other_processes_are_left_as_they_are() -> None:
    assert zipimport.zipimporter.invalidate_caches.__module__ != "croplake.spark_worker"
