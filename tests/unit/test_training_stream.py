"""Petastorm reading real Parquet files: what each worker sees of an epoch."""

from __future__ import annotations

import errno
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from croplake import tables as t
from croplake.errors import IncompleteError, InputDataError, SettingsError
from croplake.training.shards import ShardPlan, plan_shards
from tests.training_data import write_shard

tf = pytest.importorskip("tensorflow")

from croplake.training.row_groups import RowGroup  # noqa: E402
from croplake.training.stream import (  # noqa: E402
    Order,
    Shard,
    _copy,
    choose_readers,
    make_stream,
    read_batches,
)

GROUPS = ([[0, 1, 2, 3, 4], [5, 6, 7]], [[8, 9, 10, 11, 12, 13, 14]], [[15], [16, 17, 18, 19]])
NUM_ROWS = 20
BATCH = 4
SIDE = 32


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Five uneven row groups in three files, whose names do not sort in the list's order."""
    folder = tmp_path_factory.mktemp("examples") / "dataset=fruit" / "split=train"
    names = ("b.parquet", "a.parquet", "c.parquet")
    return tuple(
        write_shard(folder / name, groups) for name, groups in zip(names, GROUPS, strict=True)
    )


def shard(files: tuple[str, ...], workers: int, worker: int = 0, threads: int = 2) -> Shard:
    return Shard(files, plan_shards(files, workers), worker, threads)


def read(part: Shard, order: Order | None = None) -> list[tuple[list[int], list[float]]]:
    """The (labels, weights) of each batch; the label of a row is its number."""
    batches = []
    stream = make_stream(part, batch_size=BATCH, side_px=SIDE, order=order)
    for batch in read_batches(stream):
        images, labels, weights = (part.numpy() for part in batch)
        assert (images.shape, images.dtype) == ((BATCH, SIDE, SIDE, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((BATCH,), np.int32)
        assert (weights.shape, weights.dtype) == ((BATCH,), np.float32)
        counted = weights > 0
        # The picture is the label's own: they are not mixed up on the way.
        assert np.abs(images[counted].mean((1, 2, 3)) - labels[counted]).max(initial=0) <= 2
        batches.append((labels.tolist(), weights.tolist()))
    return batches


def wait_until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    return holds()


def rows(batches: list[tuple[list[int], list[float]]], weight: float = 1.0) -> list[int]:
    return [
        label
        for labels, weights in batches
        for label, found in zip(labels, weights, strict=True)
        if found == weight
    ]


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("order", [None, Order(3, 1, 6)], ids=["in order", "shuffled"])
def test_every_row_counts_once_and_all_workers_take_as_many_steps(
    files: tuple[str, ...], workers: int, threads: int, order: Order | None
) -> None:
    plan = plan_shards(files, workers)
    counted: list[int] = []
    for worker in range(workers):
        batches = read(shard(files, workers, worker, threads), order)
        own = rows(batches)
        assert len(batches) == plan.num_steps(BATCH)
        assert len(own) == plan.shard_rows(worker)
        # What fills a short shard is its own rows again, without weight.
        filling = rows(batches, weight=0.0)
        assert len(own) + len(filling) == plan.num_steps(BATCH) * BATCH
        assert set(filling) <= set(own)
        counted += own
    assert sorted(counted) == list(range(NUM_ROWS))


def test_rows_that_count_come_before_those_that_fill(files: tuple[str, ...]) -> None:
    flat = [weight for _, weights in read(shard(files, 3, 1)) for weight in weights]
    assert flat == sorted(flat, reverse=True)


def test_without_an_order_rows_come_as_they_stand_in_the_files(files: tuple[str, ...]) -> None:
    assert rows(read(shard(files, 1, threads=1))) == list(range(NUM_ROWS))
    second = [5, 6, 7, 15]
    assert rows(read(shard(files, 2, worker=1, threads=1))) == second


def test_each_epoch_has_an_order_of_its_own_that_repeats_with_the_seed(
    files: tuple[str, ...],
) -> None:
    part = shard(files, 1, threads=3)
    orders = [Order(1, 0, 16), Order(1, 1, 16), Order(2, 0, 16)]
    streams = [tuple(rows(read(part, order))) for order in orders]
    assert len({tuple(range(NUM_ROWS)), *streams}) == 4
    for order, stream in zip(orders, streams, strict=True):
        assert tuple(rows(read(part, order))) == stream


def test_row_groups_are_shuffled_too(files: tuple[str, ...]) -> None:
    part = shard(files, 1, threads=1)
    # A buffer of one row leaves the order to the row groups.
    orders = [rows(read(part, Order(1, epoch, 1))) for epoch in range(4)]
    groups = [group for file_groups in GROUPS for group in file_groups]
    for order in orders:
        by_place = sorted(groups, key=lambda group: order.index(group[0]))
        assert order == [row for group in by_place for row in group]
    assert len({tuple(order) for order in orders}) > 1


def test_a_worker_without_rows_takes_its_steps_with_weight_zero(tmp_path: Path) -> None:
    files = (write_shard(tmp_path / "a.parquet", [range(9), range(9, 14)]),)
    assert sorted(rows(read(shard(files, 3, 0)) + read(shard(files, 3, 1)))) == list(range(14))
    batches = read(shard(files, 3, 2))
    assert [weights for _, weights in batches] == [[0.0] * BATCH] * 3


def test_an_empty_row_group_is_passed_over(tmp_path: Path) -> None:
    files = (write_shard(tmp_path / "a.parquet", [range(3), [], range(3, 8), [], []]),)
    assert plan_shards(files, 1).group_rows == (3, 0, 5, 0, 0)
    for threads in (1, 2, 5):
        assert sorted(rows(read(shard(files, 1, threads=threads)))) == list(range(8))


def test_a_shard_that_lost_rows_since_it_was_planned_is_an_error(tmp_path: Path) -> None:
    file = write_shard(tmp_path / "a.parquet", [range(5)])
    part = Shard((file,), ShardPlan((6,), 1), 0)
    with pytest.raises(InputDataError, match=r"^the training shards gave 5 rows where their"):
        read(part)


@pytest.mark.parametrize("num_kept", [None, 0, 200])
def test_a_shard_that_is_gone_or_torn_since_it_was_planned_is_named(
    tmp_path: Path, num_kept: int | None
) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    part = shard(tuple(write_shard(path, [range(5), range(5)]) for path in paths), 1)
    if num_kept is None:
        paths[1].unlink()
    else:
        paths[1].write_bytes(paths[1].read_bytes()[:num_kept])
    with pytest.raises(InputDataError, match=r"^file:.*/b\.parquet: a training shard that cannot"):
        read(part)


def test_a_storage_that_does_not_answer_ends_with_the_way_on(
    files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = shard(files, 1)

    def fail(file: str) -> None:
        raise OSError(errno.EIO, "Input/output error", file)

    monkeypatch.setattr("croplake.storage.open_random", fail)
    with pytest.raises(IncompleteError, match=r"b\.parquet: the storage gave no .* run the same"):
        read(part)


@pytest.mark.parametrize("column", [t.IMAGE, t.LABEL_INDEX])
def test_an_example_without_a_picture_or_label_is_refused(tmp_path: Path, column: str) -> None:
    file = write_shard(tmp_path / "a.parquet", [range(5)])
    table = pq.read_table(tmp_path / "a.parquet")
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()[:-1]
    field = table.schema.field(column)
    table = table.set_column(place, field, pa.array([*values, None], field.type))
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputDataError, match=r"^row group 0 .* without a picture or a label"):
        read(shard((file,), 1))


def test_a_picture_that_is_none_is_the_users_to_mend(tmp_path: Path) -> None:
    file = write_shard(tmp_path / "a.parquet", [range(5)], picture=lambda row: b"no JPEG")
    with pytest.raises(InputDataError, match="holds an example that cannot be decoded"):
        read(shard((file,), 1))


@pytest.mark.parametrize("name", ["my #1 lake?", "100 % ü", "a=b;c", "*[x]"])
def test_folders_may_have_any_name(tmp_path: Path, name: str) -> None:
    file = write_shard(tmp_path / name / "a.parquet", [range(3), range(3, 5)])
    assert rows(read(shard((file,), 1, threads=1))) == list(range(5))


def test_a_stream_that_is_left_early_ends_its_readers(tmp_path: Path) -> None:
    def num_reading() -> int:
        return sum("ventilate" in thread.name for thread in threading.enumerate())

    file = write_shard(tmp_path / "a.parquet", [[row] for row in range(40)])
    stream = make_stream(shard((file,), 1), batch_size=1, side_px=SIDE, order=Order(1, 0, 1))
    iterator = iter(stream)
    next(iterator)
    assert num_reading() == 2
    del iterator, stream
    gc.collect()
    assert wait_until(lambda: num_reading() == 0)


class Held:
    """Counts the row groups that are alive anywhere: in work, waiting, or handed over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from petastorm.arrow_reader_worker import ArrowReaderWorker

        self.now, self.most = 0, 0
        self._lock = threading.RLock()
        load = ArrowReaderWorker._load_rows

        def counted(worker: Any, *args: Any) -> Any:  # noqa: ANN401
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            return load(worker, *args)

        monkeypatch.setattr(ArrowReaderWorker, "_load_rows", counted)
        monkeypatch.setattr("croplake.training.row_groups.RowGroup", self._row_group)

    def _row_group(self, *values: Any) -> RowGroup:  # noqa: ANN401
        group = RowGroup(*values)
        weakref.finalize(group.jpegs, self._let_go)
        return group

    def _let_go(self) -> None:
        with self._lock:
            self.now -= 1


@pytest.mark.parametrize(("num_allowed", "num_readers"), [(3, 1), (4, 1), (5, 2), (8, 3)])
def test_row_groups_held_at_once_stay_within_reader_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_allowed: int, num_readers: int
) -> None:
    held = Held(monkeypatch)
    groups = [range(first, first + 4) for first in range(0, 160, 4)]
    file = write_shard(tmp_path / "a.parquet", groups)
    plan = plan_shards((file,), 1)
    limit = num_allowed * plan.largest_group_bytes
    part = Shard((file,), plan, 0, reader_threads=4, reader_bytes=limit)
    assert choose_readers(part)[0] == num_readers
    stream = make_stream(part, batch_size=BATCH, side_px=SIDE, order=Order(1, 0, 1), num_cores=1)
    full = num_readers * (choose_readers(part)[1] + 1)
    for number, _ in enumerate(stream):
        if number < 10:  # a caller who is slower than the readers
            assert wait_until(lambda: held.now >= full)
    assert 2 < held.most <= num_allowed
    assert wait_until(lambda: held.now == 0)


def test_row_groups_too_large_for_reader_bytes_are_refused_with_the_way_out(
    files: tuple[str, ...],
) -> None:
    plan = ShardPlan((5, 5), 1, largest_group_bytes=9_000_000)
    part = Shard(files, plan, 0, reader_bytes=24 * 2**20)
    with pytest.raises(SettingsError) as error:
        make_stream(part, batch_size=BATCH, side_px=SIDE)
    assert str(error.value) == (
        "train.reader_bytes: 25165824 is less than 3 row groups of 9000000 bytes, the largest of "
        "the training shards; set train.reader_bytes to 27000000 or more, or rerun build_examples "
        "with a lower examples.row_group_bytes"
    )


COPIES = (5 / 9, 5.0)
"""N / (C · n) of 90 % and 10 %."""


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """1,000 rows; every tenth has label 1."""
    folder = tmp_path_factory.mktemp("uneven")
    groups = [range(first, first + 50) for first in range(0, 1000, 50)]
    kinds = [groups[:10], groups[10:]]
    return tuple(
        write_shard(folder / f"{number}.parquet", kind, label=lambda row: int(row % 10 == 0))
        for number, kind in enumerate(kinds)
    )


def sampled(part: Shard, order: Order) -> list[int]:
    batches = list(read_batches(make_stream(part, batch_size=40, side_px=SIDE, order=order)))
    assert len(batches) == part.plan.num_steps(40)
    assert all((weights.numpy() == 1).all() for _, _, weights in batches)
    return [int(label) for _, labels, _ in batches for label in labels.numpy()]


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (1, 3), (3, 2)])
def test_sampling_brings_nine_to_one_to_one_to_one(
    uneven: tuple[str, ...], workers: int, threads: int
) -> None:
    labels = [
        label
        for worker in range(workers)
        for label in sampled(shard(uneven, workers, worker, threads), Order(1, 0, 64, COPIES))
    ]
    assert len(labels) >= 1000
    assert 0.45 <= np.mean(labels) <= 0.55


def test_sampling_repeats_with_the_seed_and_differs_between_epochs(
    uneven: tuple[str, ...],
) -> None:
    part = shard(uneven, 1)
    orders = [Order(1, 0, 64, COPIES), Order(1, 1, 64, COPIES), Order(2, 0, 64, COPIES)]
    first = [sampled(part, order) for order in orders]
    assert len(set(map(tuple, first))) == 3
    assert [sampled(part, order) for order in orders] == first


def test_copies_are_whole_and_a_fraction_more_of_each_row(tmp_path: Path) -> None:
    file = write_shard(tmp_path / "a.parquet", [range(40)], label=lambda row: row % 2)
    jpegs = np.array([bytes([row % 200]) for row in range(400)], object)
    group = RowGroup(0, jpegs, np.arange(400, dtype=np.int32) % 2)
    rows_of, labels = _copy(group, np.array([0.25, 2.0]), 7)
    assert all((labels == 1) == np.array([row[0] % 2 == 1 for row in rows_of]))
    counts = {row: list(rows_of).count(row) for row in set(rows_of)}
    assert {count for row, count in counts.items() if row[0] % 2} == {4}
    assert 30 <= (labels == 0).sum() <= 70
    assert (labels == 1).sum() == 400
    # Of a category without rows nothing can be drawn, however long.
    part = shard((file,), 1)
    with pytest.raises(InputDataError, match="no category of the training split has an example"):
        sampled(part, Order(1, 0, 4, (0.0, 0.0)))


def test_readers_are_closed_after_an_epoch(files: tuple[str, ...]) -> None:
    def num_open() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    read(shard(files, 2, worker=1), Order(1, 0, 4))
    before = num_open()
    for epoch in range(4):
        read(shard(files, 2, worker=1), Order(1, epoch, 4))
    assert num_open() <= before


def test_a_reading_user_sees_no_warning_of_what_petastorm_uses(files: tuple[str, ...]) -> None:
    code = (
        "from croplake.training.shards import plan_shards\n"
        "from croplake.training.stream import Order, Shard, make_stream\n"
        f"shard = Shard({files!r}, plan_shards({files!r}, 1), 0)\n"
        "stream = make_stream(shard, batch_size=4, side_px=32, order=Order(1, 0, 8))\n"
        "print(sum(1 for _ in stream))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "always::FutureWarning", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "5"
    assert "Warning" not in answer.stderr
