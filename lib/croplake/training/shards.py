"""Which rows of the training shards a worker reads, known before anything is read.

Petastorm numbers the row groups in the order of the file list, then of the file, and gives worker w
of N those with `number % N == w`. The footers hold the rows of each, so every worker knows the
longest shard and takes that many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pyarrow.parquet as pq

from croplake import storage
from croplake.errors import CroplakeError, IncompleteError, InputDataError

_FOOTERS_AT_ONCE: Final = 16
_NO_ANSWER: Final = ("NETWORK_CONNECTION", "REQUEST_TIMEOUT", "SLOW_DOWN", "SERVICE_UNAVAILABLE")
"""What S3 says, in words, when asking again may help."""


@dataclass(frozen=True)
class ShardPlan:
    """How the row groups of a file list are shared out.

    Attributes:
        group_rows: rows of each row group, in Petastorm's order.
        num_workers: workers that share them.
        largest_group_bytes: of any row group, uncompressed, with all its columns.
        num_bytes: of all row groups, likewise.
    """

    group_rows: tuple[int, ...]
    num_workers: int
    largest_group_bytes: int = 0
    num_bytes: int = 0

    @property
    def num_rows(self) -> int:
        """Rows of all workers."""
        return sum(self.group_rows)

    @property
    def longest_shard(self) -> int:
        """Rows of the worker that has most."""
        return max(self.shard_rows(worker) for worker in range(self.num_workers))

    def shard_groups(self, worker_index: int) -> tuple[int, ...]:
        """Rows of each row group of a worker."""
        return self.group_rows[worker_index :: self.num_workers]

    def shard_rows(self, worker_index: int) -> int:
        """Rows of a worker."""
        return sum(self.shard_groups(worker_index))

    def num_steps(self, batch_size: int) -> int:
        """Batches that every worker takes in an epoch: enough for the longest shard."""
        return -(-self.longest_shard // batch_size)


def plan_shards(files: Sequence[str], num_workers: int) -> ShardPlan:
    """Reads the footers of Parquet files and shares their row groups out.

    Args:
        files: paths or addresses, in the order they will be read.
        num_workers: workers that share them.

    Returns:
        The plan; without files there are no row groups.

    Raises:
        InputDataError: a file is missing or no Parquet.
        IncompleteError: the storage does not answer.
    """
    # Most of the time goes by in waiting for the storage.
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        groups = [group for found in pool.map(_row_groups, files) for group in found]
    sizes = [num_bytes for _, num_bytes in groups]
    rows = tuple(num_rows for num_rows, _ in groups)
    return ShardPlan(rows, num_workers, max(sizes, default=0), sum(sizes))


def shard_error(file: str, error: Exception) -> CroplakeError:
    """What to tell the user of a shard that was not read.

    Args:
        file: its address.
        error: what the storage or the Parquet reader raised.

    Returns:
        IncompleteError where the storage may answer the next time, else InputDataError.
    """
    may_pass = isinstance(error, OSError) and (
        any(word in str(error) for word in _NO_ANSWER)
        or (error.errno is not None and not storage.is_refusal(error))
    )
    if may_pass:
        return IncompleteError(
            f"{file}: the storage gave no training shard: {error}; run the same command again"
        )
    return InputDataError(
        f"{file}: a training shard that cannot be read: {error}; if it was vacuumed or damaged, "
        "run build_examples again"
    )


def require_work_for_all(plan: ShardPlan) -> None:
    """Refuses a training split in which a worker would have nothing to read.

    Raises:
        InputDataError: how many row groups there are, are needed, and the way out.
    """
    if all(plan.shard_rows(worker) for worker in range(plan.num_workers)):
        return
    filled = sum(rows > 0 for rows in plan.group_rows)
    raise InputDataError(
        f"the training split has {filled} row groups with examples, train.num_workers: "
        f"{plan.num_workers} needs at least {plan.num_workers}, one a worker; rerun build_examples "
        "with a lower examples.row_group_bytes or a higher examples.min_row_groups, "
        "or train with fewer train.num_workers"
    )


def _row_groups(file: str) -> list[tuple[int, int]]:
    """Rows and bytes of each row group."""
    try:
        with storage.open_random(file) as content:
            footer = pq.read_metadata(content)
    except (OSError, ValueError) as error:
        raise shard_error(file, error) from error
    groups = (footer.row_group(index) for index in range(footer.num_row_groups))
    return [(group.num_rows, group.total_byte_size) for group in groups]
