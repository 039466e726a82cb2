"""Shared by all tests: one Spark session with Delta, on two local slots."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from croplake.conf import SparkConf
from croplake.session import spark_session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    properties = {
        "spark.sql.shuffle.partitions": "2",
        # Stages of a few rows are not worth planning the rest anew after each.
        "spark.sql.adaptive.enabled": "false",
        # Queries of a few rows are compiled for longer than they run; commands, which are processes
        # of their own, compile theirs.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    }
    conf = SparkConf(master="local[2]", properties=properties)
    with spark_session("croplake tests", conf) as session:
        yield session
