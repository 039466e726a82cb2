"""Figures of probes and models side by side, out of `runs` and `evaluations`."""

from __future__ import annotations

from typing import Any, Final

import pyarrow.dataset as pads

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.metrics import TOP1
from croplake.jobs.context import JobContext

PROBE: Final = "probe_examples"
"""The job's name."""


def probe_baseline(
    context: JobContext, dataset: str, split: str, examples_version: int
) -> tuple[str, float] | None:
    """What a training must beat: the last probe of the same examples.

    Args:
        context: of the job that asks.
        dataset: whose examples.
        split: it was measured on.
        examples_version: of the table `examples`.

    Returns:
        The network's name and the top-1, a fraction; None where nobody has probed them.
    """
    for run in _runs_on(context, PROBE, dataset, examples_version):
        figures = _figures(context, run[t.RUN_ID], run[t.MODEL_ID], split)
        if TOP1 in figures:
            return run[t.DETAIL], figures[TOP1]
    return None


def evaluated_model(
    context: JobContext, dataset: str, split: str, examples_version: int
) -> tuple[str, dict[str, float]] | None:
    """The newest model of the same examples that has been measured.

    Returns:
        Its id and the figures of its last evaluation, by name; None where there is none.
    """
    for trained in _runs_on(context, "train_classifier", dataset, examples_version):
        is_its = pads.field(t.MODEL_ID) == trained[t.MODEL_ID]
        for run_id in sorted(_evaluated(context, split, is_its), reverse=True):
            return trained[t.MODEL_ID], _figures(context, run_id, trained[t.MODEL_ID], split)
    return None


def _figures(context: JobContext, run_id: str, model_id: str, split: str) -> dict[str, float]:
    """The figures of the whole that a run has left of a model, by name."""
    if not context.lake.exists(t.EVALUATIONS):
        return {}
    is_whole = (
        (pads.field(t.RUN_ID) == run_id)
        & (pads.field(t.MODEL_ID) == model_id)
        & (pads.field(t.SPLIT) == split)
        & pads.field(t.CATEGORY).is_null()
        & pads.field(t.SLICE).is_null()
        & pads.field(t.OTHER_MODEL_ID).is_null()
        & pads.field(t.VALUE).is_valid()
    )
    rows = context.lake.reader.dataset(t.EVALUATIONS.name).to_table(filter=is_whole).to_pylist()
    return {row[t.METRIC]: row[t.VALUE] for row in rows}


def _evaluated(context: JobContext, split: str, which: pads.Expression) -> set[str]:
    if not context.lake.exists(t.EVALUATIONS):
        return set()
    where = which & (pads.field(t.SPLIT) == split) & (pads.field(t.METRIC) == TOP1)
    rows = context.lake.reader.dataset(t.EVALUATIONS.name).to_table([t.RUN_ID], filter=where)
    return set(rows.column(t.RUN_ID).to_pylist())


def _runs_on(
    context: JobContext, job: str, dataset: str, examples_version: int
) -> list[dict[str, Any]]:
    """Completed runs of a job that read these examples, newest first."""
    if not context.lake.exists(t.RUNS):
        return []
    rows = context.lake.reader.dataset(t.RUNS.name).to_table().to_pylist()
    wanted = _files(context, dataset, examples_version)
    found = [
        row
        for row in rows
        if (row[t.JOB], row[t.DATASET], row[t.OUTCOME]) == (job, dataset, t.DONE)
        and _reads(context, row, wanted, examples_version)
    ]
    return sorted(found, key=lambda row: (row[t.ENDED_AT], row[t.RUN_ID]), reverse=True)


def _reads(
    context: JobContext, run: dict[str, Any], wanted: list[str] | None, version: int
) -> bool:
    """Whether a run read the same rows: versions differ where another dataset was built."""
    read = dict(run[t.TABLES_READ] or ()).get(t.EXAMPLES.name)
    if read == version:
        return True
    return read is not None and wanted == (_files(context, run[t.DATASET], read) or [])


def _files(context: JobContext, dataset: str, version: int) -> list[str] | None:
    try:
        return context.lake.reader.files(
            t.EXAMPLES.name, version=version, partition={t.DATASET: dataset}
        )
    except InputDataError:  # the log does not have the version any more
        return None
