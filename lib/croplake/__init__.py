"""Open Images boxes to a Delta lake of object crops to a Keras classifier, on Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from croplake.spark_worker import is_spark_worker, keep_archives_read

if TYPE_CHECKING:
    from croplake.reader import LakeReader

__version__ = "0.1.0"
__all__ = ["__version__", "open_lake"]

if is_spark_worker():
    keep_archives_read()


def open_lake(root: str) -> LakeReader:
    """Opens a lake for reading without Spark; see `croplake.reader.LakeReader`.

    Args:
        root: local path or address (`file://`, `s3://`, `s3a://`).
    """
    # Imported here: executors import croplake for every task and need neither.
    from croplake.reader import open_lake as open_reader

    return open_reader(root)
