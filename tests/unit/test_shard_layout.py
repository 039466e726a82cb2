"""Files and row groups as planned, written as Parquet's writer would, and shared out."""

from __future__ import annotations

import math

import pytest

from croplake.conf import ExamplesConf
from croplake.examples.layout import CHECK_ROWS, plan_layout
from croplake.training.shards import ShardPlan


def written(num_rows: int, row_bytes: int, num_workers: int, conf: ExamplesConf) -> list[int]:
    """Rows of each row group of a training split of pictures of one size."""
    layout = plan_layout(
        num_rows=num_rows,
        num_bytes=num_rows * row_bytes,
        train_rows=num_rows,
        num_workers=num_workers,
        conf=conf,
    )
    # The writer looks every few rows whether the row group is full.
    per_group = CHECK_ROWS * math.ceil(layout.row_group_bytes / row_bytes / CHECK_ROWS)
    groups = []
    for file in range(layout.num_files):
        left = num_rows // layout.num_files + (file < num_rows % layout.num_files)
        while left:
            groups.append(min(left, per_group))
            left -= groups[-1]
    return groups


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5, 8, 16])
@pytest.mark.parametrize(
    ("num_rows", "row_bytes"), [(2_000, 5_000), (20_000, 20_000), (300_000, 20_000)]
)
def test_workers_get_even_shards_of_row_groups_within_8_mib(
    num_rows: int, row_bytes: int, num_workers: int
) -> None:
    conf = ExamplesConf()
    groups = written(num_rows, row_bytes, num_workers, conf)
    assert sum(groups) == num_rows
    assert max(groups) * row_bytes <= 8 * 2**20
    assert len(groups) >= max(conf.min_row_groups, 4 * num_workers)
    plan = ShardPlan(tuple(groups), num_workers)
    assert plan.longest_shard * num_workers <= 1.15 * num_rows
