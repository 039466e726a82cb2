"""What a worker is fed: how far it is shuffled, and what is refused before the first epoch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from croplake.conf import TrainConf
from croplake.errors import SettingsError
from croplake.training.shards import ShardPlan
from tests.training_data import colour_jpeg, write_colours, write_shard

pytest.importorskip("tensorflow")

from croplake.training.feeding import choose_buffer_rows, feed
from croplake.training.loop import Data
from croplake.training.stream import Shard
from tests.toy_training import conf_with, shard_of

MIB = 2**20


@pytest.mark.parametrize(
    ("num_bytes", "rows"),
    [
        (1000 * 2**10, 4096),  # rows of 1 KiB: 4 MiB at most
        (1000 * 16 * 2**10, 4096),  # of 16 KiB: as many as are allowed
        (1000 * 64 * 2**10, 1024),  # of 64 KiB: as many as make 64 MiB
        (1000 * 128 * MIB, 1),
        (0, 4096),
    ],
)
def test_the_shuffle_buffer_is_bounded_in_rows_and_in_bytes(num_bytes: int, rows: int) -> None:
    conf = TrainConf(shuffle_buffer=4096, shuffle_bytes=64 * MIB)
    for num_workers in (1, 2):
        plan = ShardPlan((600, 400), num_workers, num_bytes=num_bytes)
        assert choose_buffer_rows(conf, plan) == rows


def rows_of(data: Data) -> list[bytes]:
    """The pictures of the first epoch, in their order."""
    return [image.numpy().tobytes() for images, _, _ in data.train(0) for image in images]


def fed(conf: TrainConf, train: Shard, validation: Shard | None = None) -> Data:
    return feed(conf, train=train, validation=validation, label_counts=[8, 8, 8], num_cores=1)


def test_a_buffer_of_few_bytes_shuffles_less(tmp_path: Path) -> None:
    # One row group: its rows come as they stand, but for the buffer.
    shard = shard_of(write_colours(tmp_path / "a.parquet", [range(24)]))
    conf = conf_with(1, batch_size=24)
    as_they_stand = rows_of(fed(conf.model_copy(update={"shuffle_buffer": 1}), shard))
    assert rows_of(fed(conf, shard)) != as_they_stand
    assert rows_of(fed(conf.model_copy(update={"shuffle_bytes": 1}), shard)) == as_they_stand


def test_categories_are_balanced_as_the_settings_say(tmp_path: Path) -> None:
    labels = [0] * 18 + [1] * 6
    file = write_shard(
        tmp_path / "a.parquet", [range(24)], picture=colour_jpeg, label=labels.__getitem__
    )
    shard, counts, found, weights = shard_of(file), [18, 6, 0], {}, {}
    for balance in ("none", "weights", "sampling"):
        conf = conf_with(1, batch_size=8, class_balance=balance)
        data = feed(conf, train=shard, validation=None, label_counts=counts, num_cores=1)
        weights[balance] = data.class_weights
        found[balance] = Counter(
            int(label)
            for epoch in range(8)
            for _, batch, counted in data.train(epoch)
            for label in batch[counted > 0].numpy()
        )
    assert found["none"] == found["weights"] == {0: 8 * 18, 1: 8 * 6}
    assert found["sampling"].total() == 8 * 24
    assert 0.4 < found["sampling"][1] / found["sampling"].total() < 0.6
    # What an example counts: of each category the same in all, 1 in the mean.
    assert weights == {"none": None, "weights": [24 / 36, 24 / 12, 0.0], "sampling": None}


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
