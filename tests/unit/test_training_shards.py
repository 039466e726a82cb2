"""Row groups shared out among workers, known from the footers alone."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from croplake.errors import IncompleteError, InputDataError
from croplake.training.shards import ShardPlan, plan_shards, require_work_for_all, shard_error
from tests.training_data import write_shard

GROUPS = st.lists(st.integers(0, 50), min_size=1, max_size=20).map(tuple)


@given(group_rows=GROUPS, num_workers=st.integers(1, 7), batch_size=st.integers(1, 64))
def test_every_row_is_one_workers_and_all_take_the_steps_of_the_longest_shard(
    group_rows: tuple[int, ...], num_workers: int, batch_size: int
) -> None:
    plan = ShardPlan(group_rows, num_workers)
    dealt: list[list[int]] = [[] for _ in range(num_workers)]
    for number, rows in enumerate(group_rows):
        dealt[number % num_workers].append(rows)
    assert [list(plan.shard_groups(worker)) for worker in range(num_workers)] == dealt
    shard_rows = [plan.shard_rows(worker) for worker in range(num_workers)]
    assert shard_rows == [sum(rows) for rows in dealt]
    assert plan.num_rows == sum(shard_rows) == sum(group_rows)
    assert plan.longest_shard == max(shard_rows)
    steps = plan.num_steps(batch_size)
    assert (steps - 1) * batch_size < plan.longest_shard <= steps * batch_size


def test_the_row_groups_stand_in_the_order_of_the_file_list(tmp_path: Path) -> None:
    folder = tmp_path / "dataset=fruit" / "split=train"
    first = write_shard(folder / "b.parquet", [range(5), range(3)])
    second = write_shard(folder / "a.parquet", [range(7)])
    assert "%3D" in first
    assert plan_shards([first, second], 2).group_rows == (5, 3, 7)
    assert plan_shards([str(folder / "a.parquet"), first], 1).group_rows == (7, 5, 3)
    assert plan_shards([], 3) == ShardPlan((), 3)
    assert plan_shards([], 3).num_rows == 0


def test_the_largest_row_group_is_known_in_bytes(tmp_path: Path) -> None:
    small = write_shard(tmp_path / "a.parquet", [range(1)])
    large = write_shard(tmp_path / "b.parquet", [range(1), range(50), range(1)])
    footer = pq.read_metadata(tmp_path / "b.parquet")
    largest = footer.row_group(1).total_byte_size
    assert largest > 50 * 500
    assert plan_shards([small, large], 1).largest_group_bytes == largest


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file"), InputDataError),
        (PermissionError(errno.EACCES, "Permission denied"), InputDataError),
        (OSError("Couldn't deserialize thrift"), InputDataError),
        (OSError("When reading information for key: AWS Error ACCESS_DENIED"), InputDataError),
        (ValueError("Parquet magic bytes not found in footer"), InputDataError),
        (OSError(errno.EIO, "Input/output error"), IncompleteError),
        (OSError("AWS Error NETWORK_CONNECTION during GetObject operation"), IncompleteError),
    ],
)
def test_only_what_may_pass_is_worth_another_try(error: Exception, kind: type) -> None:
    told = shard_error("s3a://lake/a.parquet", error)
    assert type(told) is kind
    assert str(told).startswith("s3a://lake/a.parquet: ")
    assert str(error) in str(told)


@pytest.mark.parametrize(("group_rows", "filled"), [((9, 9), 2), ((9, 9, 0), 2), ((), 0)])
def test_a_worker_without_rows_is_refused_with_the_way_out(
    group_rows: tuple[int, ...], filled: int
) -> None:
    with pytest.raises(InputDataError) as error:
        require_work_for_all(ShardPlan(group_rows, 3))
    assert str(error.value) == (
        f"the training split has {filled} row groups with examples, train.num_workers: 3 needs at "
        "least 3, one a worker; rerun build_examples with a lower examples.row_group_bytes or a "
        "higher examples.min_row_groups, or train with fewer train.num_workers"
    )


def test_enough_row_groups_are_no_error() -> None:
    require_work_for_all(ShardPlan((9, 9, 0), 2))
    require_work_for_all(ShardPlan((1, 2, 3, 4), 3))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    good = write_shard(tmp_path / "good.parquet", [range(3)])
    missing = (tmp_path / "missing.parquet").as_uri()
    with pytest.raises(InputDataError, match=rf"^{missing}: a training shard that cannot be read"):
        plan_shards([good, missing], 1)


@pytest.mark.parametrize("kept", [0, 100, -20])
def test_a_torn_shard_is_named(tmp_path: Path, kept: int) -> None:
    good = write_shard(tmp_path / "good.parquet", [range(30)])
    torn = tmp_path / "torn.parquet"
    torn.write_bytes((tmp_path / "good.parquet").read_bytes()[:kept])
    with pytest.raises(InputDataError, match=r"^file:.*/torn\.parquet: a training shard that"):
        plan_shards([good, torn.as_uri()], 1)
