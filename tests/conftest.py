"""Shared by all tests: one Spark session with Delta, on two local slots."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from croplake.conf import SparkConf
from croplake.session import spark_session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    conf = SparkConf(master="local[2]", properties={"spark.sql.shuffle.partitions": "2"})
    with spark_session("croplake tests", conf) as session:
        yield session
