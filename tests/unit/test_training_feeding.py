"""What a worker is fed, and what is refused before the first epoch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from croplake.conf import TrainConf
from croplake.errors import SettingsError
from tests.training_data import write_colours

pytest.importorskip("tensorflow")

from croplake.training.feeding import feed
from croplake.training.loop import Data
from croplake.training.stream import Shard
from tests.toy_training import conf_with, shard_of


def fed(conf: TrainConf, train: Shard, validation: Shard | None = None) -> Data:
    return feed(conf, train=train, validation=validation, label_counts=[8, 8, 8], num_cores=1)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_row_groups_too_large_for_the_readers_are_refused_before_the_first_epoch(
    tmp_path: Path, split: str
) -> None:
    shard = shard_of(write_colours(tmp_path / "a.parquet", [range(24)]))
    large = dataclasses.replace(shard.plan, largest_group_bytes=shard.reader_bytes)
    shards = {"train": shard, "validation": shard}
    shards[split] = dataclasses.replace(shard, plan=large)
    with pytest.raises(SettingsError, match=r"^train\.reader_bytes: 134217728 is less than 3 row"):
        fed(conf_with(1), **shards)
