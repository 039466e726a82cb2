"""Running the chunks of fetch_crops: two at once, a tidy end on a signal, a stop on a full disk."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import FrameType
from typing import Final

import pyarrow as pa

from croplake import storage
from croplake import tables as t
from croplake.errors import IncompleteError
from croplake.fetching.batches import PartitionFetcher
from croplake.fetching.coordination import Coordinator, CoordinatorAddress, coordinator
from croplake.fetching.photo_task import FetchRules
from croplake.jobs.context import JobContext
from croplake.jobs.display import fetch_display
from croplake.jobs.fetch_plan import FetchPlan, recipe_of
from croplake.lake import spark_schema

_CHUNKS_IN_FLIGHT: Final = 2
"""While one chunk's last downloads and its commit take their time, the next uses the slots."""
_BYTES_PER_PIXEL: Final = 0.4
"""Of a crop that fills its recipe's square to three quarters: what photos take at quality 92."""
_ENOUGH_ROWS: Final = 1000
"""Of a lake, to tell the size of its crops."""
HOPELESS_PHOTOS: Final = 500
"""So many photos in a row for which no host had an answer: the network is gone."""
_GO_ON: Final = "run the same command again to go on"


class _Watch:
    """Looks at a run between its chunks: what was asked for, what came, how full the disk is."""

    def __init__(self, context: JobContext, plan: FetchPlan, running: Coordinator) -> None:
        self._context, self._plan, self._running = context, plan, running
        self._bytes_per_chunk = crop_bytes(context, plan.num_boxes) / max(1, len(plan.chunks))
        self._photos_since_answer = 0
        self.reason: str | None = None

    def stop(self, reason: str) -> None:
        """No further chunk and no further photo is begun; what is under way comes to its end."""
        if self.reason is None:
            self.reason = reason
        self._running.stop()

    def count(self, photos: int, statuses: Counter[str], answered: int) -> None:
        """Hears of finished photos."""
        self._photos_since_answer = 0 if answered else self._photos_since_answer + photos
        if self._photos_since_answer >= HOPELESS_PHOTOS:
            worst, _ = statuses.most_common(1)[0]
            self.stop(
                f"no host had an answer for the last {self._photos_since_answer:,} photos "
                f"({worst}): either the network is gone, or all that is left lies on a host that "
                "is; fetch.retry=none goes on without those"
            )

    def look_at_disk(self, chunks_under_way: int) -> None:
        """Stops the run where the next chunk would leave less room than the settings want."""
        least = self._context.settings.fetch.min_free_bytes
        free = free_bytes(self._context.lake.root)
        if not least or free is None:
            return
        needed = self._bytes_per_chunk * (chunks_under_way + 1)
        if free - needed < least:
            self.stop(
                f"the lake's disk has {_mib(free)} left, the next chunk takes about "
                f"{_mib(needed)} and fetch.min_free_bytes keeps {_mib(least)}; make room"
            )


def crop_bytes(context: JobContext, num_boxes: int) -> float:
    """What the crops of boxes will take on the lake's disk: by the recipe's mean, else a guess."""
    recipe = recipe_of(context.settings.fetch)
    per_box = _BYTES_PER_PIXEL * 0.75 * recipe.max_side_px**2
    if context.lake.exists(t.CROPS):
        finished = {t.RECIPE_ID: recipe.recipe_id, t.HAS_CROP: "true"}
        info = context.lake.reader.info(t.CROPS.name, partition=finished)
        if info.rows >= _ENOUGH_ROWS:
            per_box = info.bytes / info.rows
    return per_box * num_boxes


def free_bytes(root: str) -> int | None:
    """Free bytes of a lake's disk; None where its storage has no such limit."""
    if not storage.is_local(root):
        return None
    return shutil.disk_usage(storage.local_path(root)).free


def check_disk(context: JobContext, plan: FetchPlan) -> None:
    """Compares the plan with the lake's disk.

    Raises:
        IncompleteError: the crops would not fit.
    """
    least, free = context.settings.fetch.min_free_bytes, free_bytes(context.lake.root)
    needed = crop_bytes(context, plan.num_boxes)
    if least and free is not None and free - needed < least:
        raise IncompleteError(
            f"fetch_crops: {plan.num_boxes:,} crops take about {_mib(needed)}, the disk of "
            f"{context.lake.root} has {_mib(free)} and fetch.min_free_bytes keeps {_mib(least)}; "
            "nothing was asked for. Make room, choose another lake.root, or set "
            "fetch.min_free_bytes=0"
        )


def fetch_chunks(context: JobContext, plan: FetchPlan) -> None:
    """Runs all chunks, at most two at once.

    Raises:
        IncompleteError: a chunk failed, or the run was stopped; what was committed stays.
    """
    host = context.spark.conf.get("spark.driver.host", "127.0.0.1") or "127.0.0.1"
    slots = context.spark.sparkContext.defaultParallelism
    watch: _Watch | None = None

    def on_progress(photos: int, statuses: Counter[str], answered: int) -> None:
        display.add(photos, statuses)
        if watch is not None:
            watch.count(photos, statuses, answered)

    with (
        fetch_display(context.console, plan.num_photos) as display,
        coordinator(host, context.host_budgets(), slots, on_progress) as running,
        ThreadPoolExecutor(_CHUNKS_IN_FLIGHT, thread_name_prefix="chunk") as pool,
    ):
        watch = _Watch(context, plan, running)
        with stopping_on_signals(watch.stop):
            _run_chunks(context, plan, watch, pool, running.address)
    if watch.reason is not None:
        raise IncompleteError(
            f"fetch_crops: {watch.reason}. What was under way is in the lake; {_GO_ON}"
        )


def _run_chunks(
    context: JobContext,
    plan: FetchPlan,
    watch: _Watch,
    pool: ThreadPoolExecutor,
    address: CoordinatorAddress,
) -> None:
    waiting = iter(plan.chunks)
    under_way: set[Future[None]] = set()
    try:
        while True:
            while watch.reason is None and len(under_way) < _CHUNKS_IN_FLIGHT:
                watch.look_at_disk(len(under_way))
                files = next(waiting, None) if watch.reason is None else None
                if files is None:
                    break
                under_way.add(pool.submit(_fetch_chunk, context, files, address))
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for chunk in done:
                chunk.result()
    except KeyboardInterrupt:
        context.spark.sparkContext.cancelAllJobs()
        raise
    except Exception as error:
        watch.stop("a chunk failed")
        raise IncompleteError(
            f"fetch_crops: a chunk failed, finished ones are in the lake; {_GO_ON}. "
            f"{type(error).__name__}: {error}"
        ) from error


def _fetch_chunk(context: JobContext, files: tuple[str, ...], address: CoordinatorAddress) -> None:
    conf = context.settings.fetch
    fetcher = PartitionFetcher(
        rules=FetchRules(
            recipe=recipe_of(conf),
            sources=conf.sources,
            mirror_url=conf.mirror_url,
            max_photo_pixels=conf.max_photo_pixels,
            run_id=context.run_id,
            photo_timeout_s=conf.photo_timeout_s,
            rounds=conf.rounds,
            check_originals=conf.check_originals,
        ),
        limits=context.http_limits(),
        budgets=context.host_budgets(),
        num_tasks=context.spark.sparkContext.defaultParallelism,
        transfers=conf.transfers_per_task,
        coordinator=address,
    )

    def fetch(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return fetcher(batches)

    tasks = context.spark.read.parquet(*(storage.for_spark(file) for file in files))
    crops = tasks.mapInArrow(fetch, spark_schema(t.CROPS.schema))
    context.lake.append(crops, t.CROPS)


@contextlib.contextmanager
def stopping_on_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Turns the first Ctrl-C or SIGTERM into a tidy stop; a second one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)
        stop(f"stopped by {signal.Signals(number).name}")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"
