"""Petastorm reading real Parquet files: what each worker sees of an epoch."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from croplake.training.shards import ShardPlan, plan_shards
from tests.training_data import Pixels, jpeg_of, write_shard

tf = pytest.importorskip("tensorflow")

from croplake.training.decoding import decode_image  # noqa: E402
from croplake.training.stream import Order, Shard, make_stream  # noqa: E402

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
    for images, labels, weights in make_stream(
        part, batch_size=BATCH, side_px=SIDE, order=order
    ).as_numpy_iterator():
        assert (images.shape, images.dtype) == ((BATCH, SIDE, SIDE, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((BATCH,), np.int32)
        assert (weights.shape, weights.dtype) == ((BATCH,), np.float32)
        counted = weights > 0
        # The picture is the label's own: they are not mixed up on the way.
        assert np.abs(images[counted].mean((1, 2, 3)) - labels[counted]).max(initial=0) <= 2
        batches.append((labels.tolist(), weights.tolist()))
    return batches


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


def test_petastorm_ending_too_early_loses_no_row(
    files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from petastorm.workers_pool.thread_pool import ThreadPool
    from petastorm.workers_pool.ventilator import ConcurrentVentilator

    start, all_workers_done = ConcurrentVentilator.start, ThreadPool.all_workers_done
    num_early = 0

    def hand_out_after_the_question(pool: Any) -> bool:  # noqa: ANN401
        """Petastorm's race at its worst: all is handed out just after "is all read?"."""
        nonlocal num_early
        answer = bool(all_workers_done(pool))
        ventilator: Any = pool._ventilator
        if ventilator._ventilation_thread is None:
            start(ventilator)
            thread: Any = ventilator._ventilation_thread
            thread.join()
            num_early += answer
        return answer

    monkeypatch.setattr(ConcurrentVentilator, "start", lambda _: None)
    monkeypatch.setattr(ThreadPool, "all_workers_done", hand_out_after_the_question)
    counted = [row for worker in (0, 1) for row in rows(read(shard(files, 2, worker)))]
    assert sorted(counted) == list(range(NUM_ROWS))
    assert num_early >= 2


def test_a_shard_that_lost_rows_since_it_was_planned_is_an_error(tmp_path: Path) -> None:
    file = write_shard(tmp_path / "a.parquet", [range(5)])
    part = Shard((file,), ShardPlan((6,), 1), 0)
    with pytest.raises(tf.errors.UnknownError, match="gave 5 rows where their footers count 6"):
        read(part)


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


def drawing(height: int, width: int) -> Pixels:
    """Smooth colours with an edge: what a photo is, to a resampler."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    channels = [255 * x / x.max(initial=1), 255 * y / y.max(initial=1), 200 * (x > y) + 20]
    pixels: Pixels = np.stack(channels, axis=-1).astype(np.uint8)
    return pixels


@pytest.mark.parametrize(
    "size", [(200, 300), (33, 32), (32, 32), (20, 9), (7, 90), (256, 31), (1, 1)]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decoding_agrees_with_pillow(size: tuple[int, int], mode: str) -> None:
    target = io.BytesIO()
    Image.fromarray(drawing(*size)).convert(mode).save(target, "JPEG", quality=92)
    decoded = decode_image(tf.constant(target.getvalue()), SIDE).numpy()
    photo = Image.open(target).convert("RGB")
    expected = np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert (decoded.shape, decoded.dtype) == ((SIDE, SIDE, 3), np.uint8)
    difference = np.abs(decoded.astype(int) - expected.astype(int))
    assert difference.max() <= 2
    assert difference.mean() <= 0.5


@pytest.mark.parametrize("data", [b"", b"no JPEG", jpeg_of(drawing(40, 40))[:-200]])
def test_what_is_no_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(data), SIDE)
