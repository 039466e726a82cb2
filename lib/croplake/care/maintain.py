"""Keeps a lake small: compaction, vacuum and log retention that take nothing anyone still reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from croplake import storage, summary
from croplake import tables as t
from croplake.care.abandoned import remove_abandoned
from croplake.care.compaction import LAID_OUT, Compaction, compact, plan_compaction
from croplake.care.log import plan_log, trim_log
from croplake.care.losses import note_losses
from croplake.care.pins import find_readers
from croplake.care.vacuum import VacuumPlan, plan_vacuum, vacuum
from croplake.errors import IncompleteError, TableHeldError
from croplake.jobs.context import Job, JobContext
from croplake.lake import Lake
from croplake.locks import writing
from croplake.storage import FoundFile
from croplake.summary import titled
from croplake.tables import Table


@dataclass
class _Done:
    """What was done to one table, or would be.

    Attributes:
        compaction: of its small files.
        plan: why files go and stay.
        removed: files that went from its folder.
        log_entries: files that went from its log.
    """

    compaction: Compaction = field(default_factory=Compaction)
    plan: VacuumPlan = field(default_factory=VacuumPlan)
    removed: tuple[FoundFile, ...] = ()
    log_entries: tuple[FoundFile, ...] = ()


@dataclass
class _Report:
    done: dict[str, _Done] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)


def maintain_job() -> Job:
    """Maintenance as a run: it takes each table's lock itself, one after the other."""
    return Job(name="maintain", run=maintain, writes=(), of_dataset=False)


def maintain(context: JobContext, *, dry_run: bool = False) -> None:
    """Compacts, vacuums and trims the log of every table that nobody writes at the moment.

    Removes what trainings, and writers of files, that broke off left, too.

    Raises:
        TableHeldError: of some tables, after all others are done; the text names the holders.
        IncompleteError: a running job still reads files with forgotten photos.
    """
    lake = context.lake
    _bury(context, dry_run=dry_run)
    image_ids = context.forgotten_ids()
    report = _Report()
    for table in t.ALL_TABLES:
        if not lake.exists(table):
            continue
        try:
            with _held(lake, table, context.run_id, dry_run=dry_run):
                done = _care_for(context, table, image_ids, dry_run=dry_run)
        except TableHeldError as error:
            report.held.append(str(error))
        else:
            report.done[table.name] = done
            context.counts[f"{table.name}: files removed"] = len(done.removed)
    _print(context.console, lake.root, report, dry_run=dry_run)
    hours = context.settings.maintain.retention_hours
    for place in remove_abandoned(lake, context.run_id, retention_hours=hours, dry_run=dry_run):
        verb = "would be removed" if dry_run else "removed"
        context.console.print(
            f"left by a run that broke off, {verb}: {place}",
            highlight=False,
            soft_wrap=True,
        )
    _end(report)


def _care_for(
    context: JobContext, table: Table, image_ids: frozenset[str], *, dry_run: bool
) -> _Done:
    spark, lake, conf = context.spark, context.lake, context.settings.maintain
    if table in LAID_OUT:
        compaction = Compaction()
    elif dry_run:
        compaction = plan_compaction(lake.reader.file_sizes(table.name), conf)
    else:
        compaction = compact(spark, lake, table, conf)
    # Asked after the last commit, so that who starts later reads what that commit left.
    pins = find_readers(lake).of(table)
    hours = conf.retention_hours
    plan = plan_vacuum(spark, lake, table, pins, retention_hours=hours, image_ids=image_ids)
    removed = vacuum(spark, lake, table, plan, retention_hours=hours, dry_run=dry_run)
    versions = [pin.version for pin in pins if pin not in plan.lost]
    log_entries = plan_log(lake, table, versions, retention_days=conf.log_retention_days)
    if not dry_run:
        note_losses(lake, plan.losing)
        lake.keep_log(table)
        trim_log(lake, table, log_entries)
    return _Done(compaction, plan, removed, log_entries)


@contextmanager
def _held(lake: Lake, table: Table, run_id: str, *, dry_run: bool) -> Iterator[None]:
    if dry_run:
        yield
        return
    with writing(lake.root, (table.name,), run_id=run_id, job="maintain", is_inner=True):
        yield


def _bury(context: JobContext, *, dry_run: bool) -> None:
    """Names the runs that were killed, ends their rows and removes what they left behind."""
    for run in find_readers(context.lake).dead:
        run_id = run[t.RUN_ID]
        summary.warn(
            context.console,
            f"{run[t.JOB]} (run {run_id}) was killed: it never ended, and holds no lock",
        )
        if dry_run:
            continue
        storage.remove(storage.join(context.lake.root, "_staging", run_id))
        ended = run | {t.OUTCOME: t.KILLED}
        context.lake.put_rows([ended], t.RUNS, where=f"{t.RUN_ID} = '{run_id}'")


def _print(console: Console, root: str, report: _Report, *, dry_run: bool) -> None:
    grid = Grid()
    grid.add_column("table")
    for column in ("small files", "became", "MiB", "removed", "MiB", "log entries"):
        grid.add_column(column, justify="right")
    for name, done in report.done.items():
        compaction = done.compaction
        grid.add_row(
            name,
            f"{compaction.num_before:,}",
            "" if compaction.num_after is None else f"{compaction.num_after:,}",
            f"{compaction.bytes_before / 2**20:,.1f}",
            f"{len(done.removed):,}",
            f"{sum(file.bytes for file in done.removed) / 2**20:,.1f}",
            f"{len(done.log_entries):,}",
        )
    console.print(titled(f"maintain: {'what would be done in ' if dry_run else ''}{root}", grid))
    for name, done in report.done.items():
        for text in _notes(name, done.plan, dry_run=dry_run):
            console.print(text, highlight=False, soft_wrap=True)


def _notes(name: str, plan: VacuumPlan, *, dry_run: bool) -> Iterator[Text]:
    for pin in plan.kept:
        yield Text(f"{name} version {pin.version} is kept for {pin.reader}")
    verb = "would lose" if dry_run else "has lost"
    for pin in plan.losing:
        yield Text(
            f"{pin.reader}: its {name} version {pin.version} {verb} files, they hold "
            "forgotten photos; train anew to make the model forget them, too",
            "yellow",
        )
    for pin in plan.lost:
        yield Text(
            f"{pin.reader}: its {name} version {pin.version} cannot be read any more", "yellow"
        )


def _end(report: _Report) -> None:
    waiting = [
        f"{name} version {pin.version}, read by {pin.reader}"
        for name, done in report.done.items()
        for pin in done.plan.waiting
    ]
    waits = "; ".join(waiting)
    if report.held:
        further = [f"files with forgotten photos stay, too: {waits}"] if waiting else []
        raise TableHeldError("\n".join([*report.held, *further]))
    if waiting:
        raise IncompleteError(
            f"files with forgotten photos stay while a job reads them: {waits}; run the same "
            "command again when it has ended"
        )
