"""A real HDFS on loopback: Hadoop's own small cluster, one name node and one data node."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pyspark

from croplake import jars

_CLUSTER = (
    "org.apache.hadoop:hadoop-client-minicluster:3.4.1",
    "junit:junit:4.13.2",
    "org.hamcrest:hamcrest-core:1.3",
    "org.mockito:mockito-core:2.28.2",
)
_LOGGING = """
rootLogger.level = error
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %m%n
logger.cluster.name = org.apache.hadoop.test
logger.cluster.level = info
"""
"""That it has started it tells its log alone."""
_STARTED = "Started MiniDFSCluster -- namenode on port "


@contextmanager
def hdfs(folder: Path) -> Iterator[str]:
    """Runs HDFS with its blocks in `folder` until the block ends.

    Yields:
        Its address.
    """
    own = [str(jar) for jar in jars.fetched("a small HDFS", _CLUSTER)]
    logging = folder / "log4j2.properties"
    logging.write_text(_LOGGING)
    of_spark = Path(pyspark.__file__).parent / "jars"
    command = ["java", "-cp", ":".join([*own, f"{of_spark}/*"])]
    command += [f"-Dlog4j2.configurationFile=file:{logging}", f"-Dtest.build.data={folder}"]
    command += ["org.apache.hadoop.test.MiniDFSClusterManager", "-datanodes", "1", "-format"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield f"hdfs://127.0.0.1:{_port(process)}"
        finally:
            process.kill()


def _port(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if _STARTED in line:
            Thread(target=deque, args=(process.stdout, 0), daemon=True).start()
            return line.split(_STARTED)[1].split()[0]
    raise AssertionError(f"HDFS does not start: {''.join(said)}")
