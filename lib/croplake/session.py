"""The one builder of a Spark session with Delta."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyspark import SparkContext
from pyspark.sql import SparkSession

from croplake.conf import SparkConf
from croplake.errors import SettingsError
from croplake.jars import delta_jars, s3_jars

_PROPERTIES: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    # Delta keeps its log as a table of 50 partitions by default: far more tasks than our log needs.
    "spark.databricks.delta.snapshotPartitions": "2",
    # Readers outside Spark get plain files: no deletion vectors.
    "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
    # Delta would drop log entries after 30 days, and refuses versions older than 7 days even where
    # nothing of them was removed; which versions are kept is for `lake maintain` to know.
    "spark.databricks.delta.properties.defaults.enableExpiredLogCleanup": "false",
    "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": "false",
    # A second copy of a slow download would fetch every photo twice; an executor taken away
    # mid-download would lose them.
    "spark.speculation": "false",
    "spark.dynamicAllocation.enabled": "false",
    # A photo's row carries its crops: small batches bound a task's memory.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "64",
    # Spark asks Parquet for the span of a long list of values, and for each value of a short one.
    "spark.sql.parquet.pushdown.inFilterThreshold": "1000",
    # crops has two partitions a recipe: two open files cost less than sorting rows full of bytes.
    "spark.sql.maxConcurrentOutputFileWriters": "4",
}


@contextmanager
def spark_session(app: str, conf: SparkConf, *, with_s3: bool = False) -> Iterator[SparkSession]:
    """Opens the session for a job, and closes it if it was not open before.

    Under spark-submit the JVM is already there: its master and properties stand, Delta is added.

    Args:
        app: name shown in Spark's pages.
        conf: master and further properties.
        with_s3: whether `s3a://` addresses are read or written; endpoint and region come from the
            environment (`AWS_ENDPOINT_URL`, `AWS_REGION`), as credentials do.

    Yields:
        The session.

    Raises:
        SettingsError: no Java, or a wrong one.
        IncompleteError: jars could not be fetched.
    """
    active = SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    spark = _start(app, conf, with_s3=with_s3)
    try:
        yield spark
    finally:
        spark.stop()


def _start(app: str, conf: SparkConf, *, with_s3: bool) -> SparkSession:
    check_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    jars = delta_jars() + (s3_jars() if with_s3 else [])
    under_submit = "PYSPARK_GATEWAY_PORT" in os.environ
    master = _prepare_submitted(jars) if under_submit else conf.master
    builder = SparkSession.builder.appName(app)
    if master is not None and not under_submit:
        builder = builder.master(master)
    local = (master or "").startswith("local")
    if local:
        # Else Spark looks up this host's name, which on a laptop changes with its network.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for key, value in _properties(conf, jars, local=local).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _properties(conf: SparkConf, jars: list[Path], *, local: bool) -> dict[str, str]:
    properties = _PROPERTIES | _s3_properties()
    log4j = importlib.resources.files("croplake").joinpath("log4j2.properties")
    properties["spark.driver.extraJavaOptions"] = f"-Dlog4j2.configurationFile=file:{log4j}"
    if local:
        properties |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "2g",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 1)),
        }
        # Python does the work on the same cores: G1's threads beside it cost fetching 5 %. What the
        # JVM holds is rows on their way; a large young generation only keeps their garbage longer.
        properties["spark.driver.extraJavaOptions"] += " -XX:+UseParallelGC -XX:MaxNewSize=400m"
    properties |= conf.properties
    own = [conf.properties["spark.jars"]] if "spark.jars" in conf.properties else []
    properties["spark.jars"] = ",".join([*own, *(str(jar) for jar in jars)])
    return properties


def _s3_properties() -> dict[str, str]:
    """Where Hadoop finds S3, as the environment tells every other client."""
    properties = {}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        properties["spark.hadoop.fs.s3a.endpoint"] = endpoint
        # A server of one's own seldom has a host name for each bucket.
        properties["spark.hadoop.fs.s3a.path.style.access"] = "true"
    if region := os.environ.get("AWS_REGION"):
        properties["spark.hadoop.fs.s3a.endpoint.region"] = region
    return properties


def _prepare_submitted(jars: list[Path]) -> str | None:
    """Quietens spark-submit's JVM and puts Delta on its class path; executors get `spark.jars`.

    Returns:
        The master that spark-submit was given.
    """
    SparkContext._ensure_initialized()
    jvm = SparkContext._jvm
    if jvm is None:
        raise SettingsError("spark-submit: its JVM does not answer")
    log4j = jvm.org.apache.logging.log4j
    log4j.core.config.Configurator.setRootLevel(log4j.Level.ERROR)
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    for jar in jars:
        loader.addURL(jvm.java.io.File(str(jar)).toURI().toURL())
    master: str | None = jvm.java.lang.System.getProperty("spark.master")
    return master


@contextmanager
def session_properties(spark: SparkSession, properties: Mapping[str, str | int]) -> Iterator[None]:
    """Sets properties for a while.

    Delta hands the session's to the Parquet writer, but not a write's own options.
    """
    before = {key: spark.conf.get(key, None) for key in properties}
    for key, value in properties.items():
        spark.conf.set(key, str(value))
    try:
        yield
    finally:
        for key, old in before.items():
            if old is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, old)


def check_java() -> None:
    """Refuses a missing or too old Java in one line.

    Raises:
        SettingsError: what was found, what is needed, how to get it.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    needed = "Spark 4.0 needs Java 17 or 21; install a JDK (e.g. openjdk-17-jre-headless)"
    if java is None:
        where = f"JAVA_HOME={home}" if home else "the PATH"
        raise SettingsError(f"no java in {where}: {needed}")
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    words = answer.stderr.split('"')
    version = words[1] if len(words) > 1 else "unknown"
    if version.split(".")[0] not in ("17", "21"):
        raise SettingsError(f"{java} is Java {version}: {needed}, or set JAVA_HOME")
