"""Which versions of which tables somebody still reads: what `runs`, models and locks say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.lake import Lake
from croplake.locks import living_runs
from croplake.models import model_folder, trainings_among
from croplake.tables import Table

Run = dict[str, Any]


@dataclass(frozen=True)
class Pin:
    """A version of a table that is kept for somebody.

    Attributes:
        table: its name.
        version: of the table.
        reader: who reads it, for people.
        model_id: of the model that reads it; None is a run that goes on.
    """

    table: str
    version: int
    reader: str
    model_id: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether the reader is at it right now."""
        return self.model_id is None


@dataclass(frozen=True)
class Readers:
    """What `runs` and the locks say at one moment.

    Attributes:
        pins: the versions that models and running jobs read, sorted.
        dead: the rows of `runs` that say `running` though their run is over.
    """

    pins: tuple[Pin, ...]
    dead: tuple[Run, ...]

    def of(self, table: Table) -> tuple[Pin, ...]:
        """The pins of one table."""
        return tuple(pin for pin in self.pins if pin.table == table.name)


def find_readers(lake: Lake) -> Readers:
    """Asks `runs` who reads what, the models' folders and the locks who of them still exists.

    A model reads what its training read; one whose folder was removed reads nothing. A run is
    alive as long as it holds its lock; where the storage has no locks, every `running` one is.
    """
    before = {run[t.RUN_ID] for run in runs_of(lake) if run[t.OUTCOME] == t.RUNNING}
    alive = living_runs(lake.root)
    # Asked again: a run ends its row before it gives its lock back, and one may have begun by now.
    runs = runs_of(lake)
    under_way = [run for run in runs if run[t.OUTCOME] == t.RUNNING]
    dead = [
        run
        for run in under_way
        if alive is not None and run[t.RUN_ID] in before and run[t.RUN_ID] not in alive
    ]
    pins = {*_model_pins(lake, runs)}
    for run in [run for run in under_way if run not in dead]:
        reader = f"{run[t.JOB]}, running (run {run[t.RUN_ID]})"
        pins |= {Pin(table, version, reader) for table, version in run[t.TABLES_READ].items()}
    order = sorted(pins, key=lambda pin: (pin.table, pin.version, pin.reader))
    return Readers(tuple(order), tuple(dead))


def runs_of(lake: Lake) -> list[Run]:
    """The rows of `runs` by their start, their maps as dicts."""
    if not lake.exists(t.RUNS):
        return []
    maps = (t.TABLES_READ, t.TABLES_WRITTEN, t.COUNTS)
    rows = lake.reader.dataset(t.RUNS.name).to_table().to_pylist()
    runs = [row | {column: dict(row[column] or ()) for column in maps} for row in rows]
    return sorted(runs, key=lambda run: (run[t.STARTED_AT], run[t.RUN_ID]))


def _model_pins(lake: Lake, runs: Iterable[Run]) -> Iterable[Pin]:
    for run in trainings_among(runs):
        if storage.exists(model_folder(lake.root, run[t.MODEL_ID])):
            for table, version in run[t.TABLES_READ].items():
                yield Pin(table, version, f"model {run[t.MODEL_ID]}", run[t.MODEL_ID])


def pinned_files(lake: Lake, pins: Iterable[Pin]) -> tuple[dict[str, list[Pin]], list[Pin]]:
    """The files of pinned versions.

    Returns:
        Path in the table's folder to the pins that need it; and the pins whose version the log
        does not have any more.
    """
    files: dict[str, list[Pin]] = {}
    lost: list[Pin] = []
    by_version: dict[tuple[str, int], list[Pin]] = {}
    for pin in pins:
        by_version.setdefault((pin.table, pin.version), []).append(pin)
    for (table, version), readers in by_version.items():
        try:
            paths = lake.reader.file_sizes(table, version=version)
        except InputDataError:
            lost += readers
            continue
        for path in paths:
            files.setdefault(path, []).extend(readers)
    return files, lost
