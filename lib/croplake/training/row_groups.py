"""Row groups of training shards, read by Petastorm in a thread, few at a time.

Petastorm's own thread pool cannot be bounded tightly: its queue has at least five places, and it
reads three row groups ahead of those. So Petastorm is given a pool of one thread whose queue is as
long as is asked for; which row groups are read, in which order and how, stays Petastorm's.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.training.shards import plan_shards, shard_error

_COLUMNS: Final = [t.IMAGE, t.LABEL_INDEX]
_LOOK_AGAIN_S: Final = 0.05
"""How soon a thread that waits for the other sees that this has ended."""


@dataclass(frozen=True)
class RowGroup:
    """What is trained on of a row group.

    Attributes:
        number: of the row group, over all files in their order, from 0.
        jpegs: bytes objects, shape (rows,).
        labels: int32, shape (rows,).
    """

    number: int
    jpegs: NDArray[np.object_]
    labels: NDArray[np.int32]


class RowGroupReader:
    """Reads every `parts`-th row group of a file list, beginning with number `part`.

    A thread of its own reads ahead: `queue_size` row groups wait for the caller, one is in work.
    """

    def __init__(
        self, files: Sequence[str], part: int, parts: int, *, seed: int | None, queue_size: int
    ) -> None:
        """Opens the files and begins to read.

        Args:
            files: paths or addresses.
            part: from 0.
            parts: that the row groups are shared out to; at most as many as there are row groups.
            seed: of the row groups' order, not 0; None is the order of the files.
            queue_size: row groups that wait, at least 1.

        Raises:
            InputDataError, IncompleteError: a file cannot be read.
        """
        self._files = files
        self._pool = _OneThread(queue_size)
        try:
            _open_petastorm(files, part, parts, seed, self._pool)
        except Exception as error:
            self.close()
            raise self._as_user_error(error) from error

    def take(self) -> RowGroup | None:
        """The next row group that has rows; None after the last.

        Raises:
            InputDataError, IncompleteError: a file cannot be read.
        """
        try:
            return self._pool.take()
        except Exception as error:
            raise self._as_user_error(error) from error

    def close(self) -> None:
        """Ends the thread and lets go of what was read."""
        self._pool.stop()

    def _as_user_error(self, error: Exception) -> Exception:
        if not isinstance(error, OSError | pa.ArrowException | RuntimeError):
            return error
        # Names the file if it is one that is gone or torn.
        plan_shards(self._files, 1)
        return shard_error(self._files[0] + ", …" if self._files[1:] else self._files[0], error)


class _OneThread:
    """What Petastorm takes for its pool of workers: its ventilator's own thread reads."""

    workers_count = 1

    def __init__(self, queue_size: int) -> None:
        self._queue: Queue[RowGroup | Exception] = Queue(queue_size)
        self._ended = threading.Event()
        self._worker: Any = None
        self._ventilator: Any = None
        self._number = -1

    def start(self, worker_class: Any, worker_args: Any, *, ventilator: Any) -> None:  # noqa: ANN401
        """Called by Petastorm's reader."""
        self._worker = worker_class(0, self._publish, worker_args)
        self._ventilator = ventilator
        ventilator.start()

    def ventilate(self, **item: Any) -> None:  # noqa: ANN401
        """Called by Petastorm's ventilator, in its thread, for one row group after another."""
        if self._ended.is_set():
            return
        self._number = item["piece_index"]
        try:
            self._worker.process(**item)
        except Exception as error:  # it is the caller's, who raises it
            self._put(error)
        self._ventilator.processed_item()

    def take(self) -> RowGroup | None:
        """The next row group; None after the last."""
        while True:
            # Asked first: what was put before it ended is in the queue by then.
            has_ended = self._ended.is_set() or self._ventilator.completed()
            try:
                found = self._queue.get(timeout=0 if has_ended else _LOOK_AGAIN_S)
            except Empty:
                if has_ended:
                    return None
                continue
            if isinstance(found, Exception):
                raise found
            return found

    def stop(self) -> None:
        """Ends the thread, also one that waits for a place in the queue."""
        self._ended.set()
        if self._ventilator is not None:
            self._ventilator.stop()
        while not self._queue.empty():
            self._queue.get_nowait()

    def _publish(self, table: pa.Table) -> None:
        if table.column(t.IMAGE).null_count or table.column(t.LABEL_INDEX).null_count:
            raise InputDataError(
                f"row group {self._number} of the training shards has an example without a "
                "picture or a label; run build_examples again"
            )
        columns = [table.column(name).combine_chunks() for name in _COLUMNS]
        jpegs, labels = (column.to_numpy(zero_copy_only=False) for column in columns)
        del table, columns
        self._put(RowGroup(self._number, jpegs, labels.astype(np.int32)))

    def _put(self, found: RowGroup | Exception) -> None:
        while not self._ended.is_set():
            try:
                return self._queue.put(found, timeout=_LOOK_AGAIN_S)
            except Full:
                continue


def _open_petastorm(
    files: Sequence[str], part: int, parts: int, seed: int | None, pool: _OneThread
) -> None:
    """Starts a Petastorm reader on the pool; Petastorm has no types."""
    _ignore_deprecations()
    from petastorm.arrow_reader_worker import ArrowReaderWorker
    from petastorm.reader import Reader

    names = [f"/{number}" for number in range(len(files))]
    Reader(
        _petastorm_files(dict(zip(names, files, strict=True))),
        names,
        schema_fields=_COLUMNS,
        worker_class=ArrowReaderWorker,
        reader_pool=pool,
        is_batched_reader=True,
        shuffle_row_groups=seed is not None,
        seed=seed,
        cur_shard=part,
        shard_count=parts,
        num_epochs=1,
    )


def _petastorm_files(addresses: dict[str, str]) -> Any:  # noqa: ANN401
    """Files of any root as Petastorm takes them: a file system of pyarrow's old kind.

    They have numbers for names there, so that nothing in a path is taken for a partition, a
    wildcard or a part of an address.
    """
    from pyarrow.filesystem import FileSystem

    class Files(FileSystem):  # type: ignore[misc]  # pyarrow has no types
        def isdir(self, path: str) -> bool:
            return path not in addresses

        def isfile(self, path: str) -> bool:
            return path in addresses

        def open(self, path: str, mode: str = "rb") -> pa.NativeFile:
            return storage.open_random(addresses[path])

    return Files()


def _ignore_deprecations() -> None:
    """Petastorm uses what pyarrow 14 and setuptools call old, by the dozen; nobody here can act."""
    for category in (FutureWarning, DeprecationWarning):
        for module in (r"petastorm(\.|$)", r"pyarrow(\.|$)", r"pkg_resources(\.|$)"):
            warnings.filterwarnings("ignore", category=category, module=module)
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    # Of columns whose names begin like those asked for (image_id).
    warnings.filterwarnings("ignore", message="schema_fields behavior has changed")
