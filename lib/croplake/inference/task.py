"""Executor code: the whole of a classification's task, from its settings to its rows."""

from __future__ import annotations

import functools
import json
import math
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from croplake import storage
from croplake.fetching.coordination import CoordinatorAddress
from croplake.fetching.getter import HttpGetter
from croplake.fetching.http import HttpLimits
from croplake.fetching.link import coordinator_link
from croplake.fetching.shares import Budgets
from croplake.fetching.upright import decode_upright
from croplake.inference.copies import Copies, CopyPlan
from croplake.inference.model import load_classifier
from croplake.inference.photos import ClassifyRun, Sink, classify_photos
from croplake.inference.reading import photo_loader
from croplake.inference.showcase import Showcase

_LEAST_SIDE_PX: Final = 192
_LEAST_TIMES: Final = 1.5
"""Photos are halved down to no less than so many times the network's side, and so many pixels."""
_COPIES: Final = ".copies.json"


@dataclass(frozen=True)
class ShowcasePlan:
    """What a page wants of each task.

    Attributes:
        num_of_group: as for `Showcase`.
        side_px: as for `Showcase`.
    """

    num_of_group: int
    side_px: int


@dataclass(frozen=True)
class CopyReport:
    """What became of the copies of a run.

    Attributes:
        num_copied: photos that lie in their folders.
        num_failed: photos that could not be written there.
        failures: path and reason of some.
    """

    num_copied: int = 0
    num_failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class ClassifyTask:
    """What a task is told; called with its batches.

    Attributes:
        model: folder or file of the model, readable from every executor.
        run: the run's settings.
        limits: of downloads; `max_bytes` holds for files and bytes of tables, too.
        budgets: of hosts.
        num_tasks: that run at once.
        max_pixels: a photo of more pixels is not decoded.
        coordinator: where the driver shares the budgets out; None: each task takes an equal part.
        scratch: a folder of any storage for what tasks tell the driver beside their rows.
        showcase: what a page wants; None without one.
        copies: where photos are copied to; None without.
    """

    model: str
    run: ClassifyRun
    limits: HttpLimits
    budgets: Budgets
    num_tasks: int
    max_pixels: int
    coordinator: CoordinatorAddress | None = None
    scratch: str | None = None
    showcase: ShowcasePlan | None = None
    copies: CopyPlan | None = None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches of `photos.PHOTOS_SCHEMA` in, in the schema of `predictions` out."""
        classifier = load_classifier(self.model)
        showcase = copies = None
        if self.showcase is not None:
            showcase = Showcase(self.showcase.num_of_group, self.showcase.side_px)
        if self.copies is not None:
            copies = Copies(self.copies)
        sinks: list[Sink] = [sink for sink in (showcase, copies) if sink is not None]
        least_side_px = max(_LEAST_SIDE_PX, math.ceil(_LEAST_TIMES * classifier.side_px))
        with ExitStack() as stack:
            link = stack.enter_context(
                coordinator_link(self.coordinator, self.budgets, self.num_tasks)
            )
            getter = HttpGetter(self.limits, link, max_transfers=self.run.transfers)
            stack.enter_context(getter)
            link.serve(getter.transfers)
            if copies is not None:
                stack.callback(copies.close)
            yield from classify_photos(
                batches,
                self.run,
                classifier,
                load_bytes=photo_loader(getter, max_bytes=self.limits.max_bytes),
                decode=functools.partial(
                    decode_upright, max_pixels=self.max_pixels, least_side_px=least_side_px
                ),
                max_bytes=self.limits.max_bytes,
                shrink=None if showcase is None else showcase.shrink,
                keeps_data=copies is not None,
                sinks=sinks,
            )
        self._leave(showcase, copies)

    def _leave(self, showcase: Showcase | None, copies: Copies | None) -> None:
        if self.scratch is None:
            return
        if showcase is not None:
            showcase.leave(self.scratch)
        if copies is not None:
            report = [copies.num_copied, copies.num_failed, copies.failures]
            file = storage.join(self.scratch, _task_name() + _COPIES)
            storage.write_bytes(file, json.dumps(report).encode())


def _task_name() -> str:
    """The same for a task that Spark tries again: it tells once."""
    from pyspark import TaskContext  # now: whoever runs no task need not have it loaded

    task = TaskContext.get()
    return str(task.partitionId()) if task else uuid.uuid4().hex


def read_copy_reports(scratch: str) -> CopyReport:
    """What all tasks have told of their copies; driver."""
    total = CopyReport()
    for file in storage.list_files(scratch):
        if file.endswith(_COPIES):
            num_copied, num_failed, failures = json.loads(storage.read_bytes(file))
            total = CopyReport(
                total.num_copied + num_copied,
                total.num_failed + num_failed,
                total.failures + [(path, reason) for path, reason in failures],
            )
    return total
