"""A lake with nothing but a model: written by delta-rs, no JVM."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from croplake import storage
from croplake import tables as t
from croplake.conf import Settings
from croplake.reader import delta_address, storage_options
from croplake.tables import Table
from tests.jobs.world import hand_made_settings
from tests.small_models import save_model_folder

MODEL_ID = "fruit-r4"
ENDED_AT = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
BY = "https://creativecommons.org/licenses/by/2.0/"


def add_rows(root: str, table: Table, *rows: dict[str, Any]) -> None:
    """Appends rows; columns that a row does not name are null."""
    full = [dict.fromkeys(table.columns) | row for row in rows]
    write_deltalake(
        delta_address(storage.join(storage.absolute(root), table.name)),
        pa.Table.from_pylist(full, schema=table.schema),
        partition_by=list(table.partition_by) or None,
        mode="append",
        storage_options=storage_options(),
    )


def training(model_id: str = MODEL_ID, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """The row of `runs` of a training."""
    row = {
        t.RUN_ID: model_id.removeprefix("fruit-"),
        t.JOB: "train_classifier",
        t.DATASET: "fruit",
        t.MODEL_ID: model_id,
        t.OUTCOME: t.DONE,
        t.ENDED_AT: ENDED_AT,
        t.TABLES_READ: [("examples", 0)],
        t.TABLES_WRITTEN: [],
        t.COUNTS: [],
    }
    return row | changes


def evaluation(run_id: str, examples_version: int) -> dict[str, Any]:
    """The row of `runs` of an evaluation."""
    read = [("examples", examples_version)]
    return training() | {t.RUN_ID: run_id, t.JOB: "evaluate_classifier", t.TABLES_READ: read}


def add_what_it_learned_from(root: str) -> None:
    """Three crops, two of a known licence, and the figures of two evaluations.

    A third, the last, is of another version of the examples.
    """
    of = {t.DATASET: "fruit", t.SPLIT: "train", t.CATEGORY: "Apple", t.LABEL_INDEX: 0}
    licences = [BY, BY, None]
    rows = [of | {t.EXAMPLE_ID: str(n), t.LICENSE: text} for n, text in enumerate(licences)]
    add_rows(root, t.EXAMPLES, *rows, rows[0] | {t.SPLIT: "test"})
    figures = [("e1", "top1", 0.5), ("e2", "top1", 0.875), ("e2", "num_examples", 8.0)]
    figures += [("e3", "top1", 0.99), ("e3", "num_examples", 9.0)]
    add_rows(root, t.RUNS, evaluation("e1", 0), evaluation("e2", 0), evaluation("e3", 1))
    told = {t.MODEL_ID: MODEL_ID, t.DATASET: "fruit", t.SPLIT: "test"}
    add_rows(
        root,
        t.EVALUATIONS,
        *(told | {t.RUN_ID: run, t.METRIC: name, t.VALUE: value} for run, name, value in figures),
    )


def make_model_lake(
    folder: Path,
    model: Any,  # noqa: ANN401  # keras has no types
    labels: Sequence[str],
    *,
    side_px: int = 64,
) -> Settings:
    """A lake with one trained model, its examples and evaluations."""
    settings = hand_made_settings(folder)
    root = settings.lake.root
    add_what_it_learned_from(root)
    add_rows(root, t.RUNS, training())
    save_model_folder(Path(root, "models", MODEL_ID), model, labels, side_px=side_px)
    return settings
