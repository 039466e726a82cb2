"""What every job is given, and what earlier runs left in `runs`."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from rich.console import Console

from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import SettingsError
from croplake.fetching.http import HttpLimits
from croplake.fetching.pacing import HostBudget
from croplake.fetching.shares import Budgets
from croplake.lake import Lake
from croplake.tables import Table


@dataclass
class JobContext:
    """A running job's surroundings and its record.

    Attributes:
        spark: the session.
        settings: of the run.
        lake: where tables are read and written.
        console: for people; standard output.
        run_id: of this run of this job.
        pinned: version of every table that the job reads, as it was when the run started.
        read: version of every table read, or about to be.
        written: version of every table written.
        counts: rows by what became of them.
        model_id: of the model that was made or used.
        out: where a page goes; None is its usual place.
        detail: what `runs` says of the run beside its outcome.
        note: brings the run's row up to date with what it reads by now.
    """

    spark: SparkSession
    settings: Settings
    lake: Lake
    console: Console
    run_id: str = field(default_factory=lambda: new_run_id())
    pinned: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    model_id: str | None = None
    out: str | None = None
    detail: str | None = None
    note: Callable[[], None] = lambda: None

    def read_table(self, table: Table, *, version: int | None = None) -> DataFrame:
        """A snapshot of a table, its version in `runs` before its first row is read.

        Args:
            table: which.
            version: of the snapshot; None is the one pinned when the run started, or the last.
        """
        return self.lake.read(table, version=self._noted(table, version))

    def scan_table(self, table: Table) -> DataFrame:
        """As `read_table`, of a table of few files: see `Lake.scan`."""
        return self.lake.scan(table, version=self._noted(table, None))

    def read_rows(self, table: Table) -> list[dict[str, Any]]:
        """As `read_table`, of a small table and without Spark: value by column.

        Raises:
            InputDataError: it has not been written; the text names the job that does.
        """
        return self.lake.rows(table, version=self._noted(table, None))

    def _noted(self, table: Table, version: int | None) -> int | None:
        """The version to read, in `runs`; None where the table is not there."""
        if not self.lake.exists(table):
            return None
        if version is None:
            version = self.pinned.get(table.name)
        if version is None:
            version = self.lake.version(table)
        if self.read.get(table.name) != version:
            self.read[table.name] = version
            self.note()
        return version

    def forgotten_ids(self) -> frozenset[str]:
        """The `image_id` of every photo that `lake forget` was told of."""
        if not self.lake.exists(t.FORGOTTEN_PHOTOS):
            return frozenset()
        return frozenset(row[t.IMAGE_ID] for row in self.read_rows(t.FORGOTTEN_PHOTOS))

    def forgotten_photos(self) -> DataFrame:
        """`forgotten_ids` as a table of one column."""
        image_ids = pa.array(sorted(self.forgotten_ids()), pa.string())
        # From Arrow it reaches the JVM as it is; from a list it would take Python workers.
        return self.spark.createDataFrame(pa.table({t.IMAGE_ID: image_ids}))

    def http_limits(self) -> HttpLimits:
        """The settings' limits of a download.

        Raises:
            SettingsError: the certificates to trust are not there.
        """
        fetch = self.settings.fetch
        limits = HttpLimits(
            connect_timeout_s=fetch.connect_timeout_s,
            read_timeout_s=fetch.read_timeout_s,
            photo_timeout_s=fetch.photo_timeout_s,
            max_bytes=fetch.max_photo_bytes,
            max_pause_s=fetch.max_pause_s,
            connect_to=dict(fetch.connect_to),
            private_hosts=frozenset(name.lower() for name in fetch.private_hosts),
            ca_file=fetch.ca_file,
            contact=fetch.contact,
        )
        if not Path(limits.ca_bundle).is_file():
            raise SettingsError(
                f"{limits.ca_bundle}: no such file; expected the certificates to trust as PEM "
                "(fetch.ca_file, or SSL_CERT_FILE in the environment)"
            )
        return limits

    def host_budgets(self) -> Budgets:
        """The settings' budgets of hosts."""
        hosts = self.settings.fetch.hosts
        return Budgets({name: HostBudget(**conf.model_dump()) for name, conf in hosts.items()})


@dataclass(frozen=True)
class Job:
    """A step of the way.

    Attributes:
        name: verb_noun.
        run: does it.
        writes: tables it holds the locks of.
        reads: tables whose versions are pinned when it starts.
        follows: the jobs whose tables it reads.
        conf_of: the part of the settings that decides what it writes.
        state_of: what else decides it, beside the settings and the tables of the jobs it follows.
        of_dataset: whether its result belongs to a dataset.
        is_there: whether what a completed run left beside tables is still there.
        always: a run never skips it: it finds out itself what is left to do, or is asked anew.
    """

    name: str
    run: Callable[[JobContext], None]
    writes: tuple[Table, ...]
    reads: tuple[Table, ...] = ()
    follows: tuple[str, ...] = ()
    conf_of: Callable[[Settings], Any] = lambda settings: None
    state_of: Callable[[Lake, Settings], Any] = lambda lake, settings: None
    of_dataset: bool = True
    is_there: Callable[[Lake, dict[str, Any]], bool] = lambda lake, run: True
    always: bool = False

    def dataset(self, settings: Settings) -> str | None:
        """The dataset its result belongs to."""
        return settings.dataset.name if self.of_dataset else None


def new_run_id() -> str:
    """A name for a run that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def settings_hash(job: Job, settings: Settings, inputs: dict[str, Any]) -> str:
    """Hash of all that decides a job's result: its settings and the versions it would read."""
    # The order of settings may count: the first of overlapping categories takes a class.
    conf = json.dumps(_plain(job.conf_of(settings)))
    parts = {"job": job.name, "settings": conf, "inputs": inputs}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:  # noqa: ANN401  # anything JSON knows, models included
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def latest_runs(lake: Lake, settings: Settings, jobs: tuple[Job, ...]) -> dict[str, dict[str, Any]]:
    """The last completed run of each job for the settings' dataset.

    Returns:
        Job name to its row of `runs`; jobs that never completed are missing.
    """
    if not lake.exists(t.RUNS):
        return {}
    rows = lake.reader.dataset(t.RUNS.name).to_table().to_pylist()
    latest: dict[str, dict[str, Any]] = {}
    for job in jobs:
        done = [
            row
            for row in rows
            if row[t.JOB] == job.name
            and row[t.OUTCOME] == t.DONE
            and row[t.DATASET] == job.dataset(settings)
        ]
        if done:
            row = max(done, key=lambda row: (row[t.ENDED_AT], row[t.RUN_ID]))
            latest[job.name] = row | {
                column: dict(row[column] or ()) for column in (t.TABLES_READ, t.TABLES_WRITTEN)
            }
    return latest
