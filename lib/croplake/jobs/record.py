"""The record that every run leaves in `runs`, from its start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from croplake import tables as t
from croplake.errors import CroplakeError
from croplake.jobs.context import Job, JobContext
from croplake.locks import writing


@contextmanager
def recorded(context: JobContext, job: Job, hashed: str) -> Iterator[None]:
    """Holds the job's locks while it runs, and keeps its row in `runs`.

    The row says `running`, and what is read, from the start, so that `lake maintain` keeps those
    versions; it is replaced by what came of the run, however it ends. Of a killed run it stays;
    that the run is over is told by its lock, which it no longer holds.

    Raises:
        InputDataError: the job writes no table, and there is no lake.
    """
    if not job.writes:
        context.lake.reader.check_is_lake()  # else a mistyped lake.root would become one
    row = RunRow(context, job, hashed)
    names = tuple(table.name for table in job.writes)
    with writing(context.lake.root, names, run_id=context.run_id, job=job.name):
        context.lake.mark()
        for table in job.writes:
            context.lake.keep_log(table)
        _pin(context, job)
        row.add()
        context.note = row.update
        outcome, detail = t.FAILED, None
        try:
            if _pin(context, job):  # else a vacuum in between would not have known of them
                row.update()
            yield
            outcome = t.DONE
        except CroplakeError as error:
            outcome, detail = (t.INCOMPLETE if error.exit_code == 3 else t.FAILED), str(error)
            raise
        except BaseException as error:
            detail = f"{type(error).__name__}: {error}"
            raise
        finally:
            row.update(outcome, detail)


def _pin(context: JobContext, job: Job) -> bool:
    """Pins the last version of every table the job reads; whether that changed anything."""
    before = context.pinned
    context.pinned = {
        table.name: context.lake.version(table) for table in job.reads if context.lake.exists(table)
    }
    context.read |= context.pinned
    return context.pinned != before


class RunRow:
    """The one row of a run in `runs`."""

    def __init__(self, context: JobContext, job: Job, hashed: str) -> None:
        self._context = context
        self._job = job
        self._hashed = hashed
        self._started = datetime.now(UTC)

    def add(self) -> None:
        """Puts it there: the run is under way."""
        self._context.lake.add_rows([self._row(t.RUNNING, None)], t.RUNS)

    def update(self, outcome: str = t.RUNNING, detail: str | None = None) -> None:
        """Puts what is true by now in its place."""
        of_run = f"{t.RUN_ID} = '{self._context.run_id}'"
        self._context.lake.put_rows([self._row(outcome, detail)], t.RUNS, where=of_run)

    def _row(self, outcome: str, detail: str | None) -> dict[str, Any]:
        context = self._context
        return {
            t.RUN_ID: context.run_id,
            t.JOB: self._job.name,
            t.DATASET: self._job.dataset(context.settings),
            t.SETTINGS: context.settings.model_dump_json(),
            t.SETTINGS_HASH: self._hashed,
            t.TABLES_READ: context.read,
            t.TABLES_WRITTEN: context.written,
            t.COUNTS: context.counts,
            t.MODEL_ID: context.model_id,
            t.STARTED_AT: self._started,
            t.ENDED_AT: None if outcome == t.RUNNING else datetime.now(UTC),
            t.OUTCOME: outcome,
            t.DETAIL: "; ".join(filter(None, (context.detail, detail))) or None,
        }
