"""What croplake changes in the Python workers of Spark, and nowhere else."""

from __future__ import annotations

import sys
import zipimport


def is_spark_worker() -> bool:
    """Whether this process is one of Spark's Python workers."""
    return "pyspark.worker" in sys.modules


def keep_archives_read() -> None:
    """Spares every task a reading of Spark's archives.

    Spark 4.0 has each task look anew for modules (SPARK-54744), and Python 3.11 then reads the
    lists of all archives on its path at once (python/cpython#103200): those of pyspark.zip and of
    Spark's core jar take it an eighth of a second or more. They do not change while they are in
    use, and what `--py-files` adds has paths of its own.
    """
    setattr(zipimport.zipimporter, "invalidate_caches", _leave)  # noqa: B010  # for mypy


def _leave(importer: zipimport.zipimporter) -> None:
    """Leaves an archive's list as it was read."""
