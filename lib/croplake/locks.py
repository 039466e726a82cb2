"""One writer per table: an exclusive lock that dies with its holder.

On file systems it is `flock`, which the kernel drops when the holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from croplake import storage
from croplake.errors import TableHeldError


@contextmanager
def writing(root: str, tables: tuple[str, ...], *, run_id: str, job: str) -> Iterator[None]:
    """Holds the locks of all tables a job writes.

    Args:
        root: of the lake.
        tables: names; taken in sorted order, so two jobs never wait on each other in a ring.
        run_id: of the holder, for the other's message.
        job: of the holder, for the other's message.

    Raises:
        TableHeldError: another writer has one of them; its text names the holder.
    """
    if not storage.is_local(root):
        print(  # noqa: T201
            f"{root}: no lock on this kind of storage; see to it that one job writes at a time",
            file=sys.stderr,
        )
        yield
        return
    folder = storage.local_path(root) / "_locks"
    folder.mkdir(parents=True, exist_ok=True)
    holder = {
        "job": job,
        "run_id": run_id,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with ExitStack() as stack:
        for table in sorted(tables):
            stack.enter_context(_flock(folder / f"{table}.lock", table, holder))
        yield


@contextmanager
def _flock(path: Path, table: str, holder: dict[str, object]) -> Iterator[None]:
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise TableHeldError(
                f"table {table} is being written by {_describe(file.read())}; wait for it, or stop "
                f"it and run the same command again ({path})"
            ) from None
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        yield
        file.truncate(0)


def _describe(text: str) -> str:
    try:
        holder = json.loads(text)
        return (
            f"{holder['job']} (run {holder['run_id']}, process {holder['pid']} on "
            f"{holder['host']}, since {holder['since']})"
        )
    except (ValueError, KeyError):
        return "another process"
