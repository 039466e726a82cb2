"""HDFS as pyarrow knows file systems; imported only where an address asks for it."""

from __future__ import annotations

from typing import Any

from hdfs_native.fsspec import HdfsFileSystem


class Hdfs(HdfsFileSystem):
    """hdfs-native's, with the time of the last change by the name that pyarrow looks for."""

    def info(self, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """What is known of a path, as fsspec has it, and `mtime` in seconds since 1970."""
        found: dict[str, Any] = super().info(path, **options)
        return found | {"mtime": found["modification_time"] / 1000}
