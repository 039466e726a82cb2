"""Figures of probes and models side by side, out of `runs` and `evaluations`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pyarrow.dataset as pads

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.evaluated import Baseline
from croplake.evaluation.metrics import TOP1
from croplake.models import trainings
from croplake.reader import LakeReader

PROBE: Final = "probe_examples"
"""The job's name."""
MODEL: Final = "model:"
"""How the name of a model of the lake begins, in `embeddings`."""


@dataclass(frozen=True)
class SameExamples:
    """The examples of a dataset in a version, and who else has read the same rows.

    Attributes:
        reader: of the lake.
        dataset: whose examples.
        version: of the table `examples`.
    """

    reader: LakeReader
    dataset: str
    version: int

    def are_read_by(self, run: dict[str, Any]) -> bool:
        """Whether a run read these rows: versions differ where another dataset was built."""
        read = dict(run[t.TABLES_READ] or ()).get(t.EXAMPLES.name)
        if read is None or read == self.version:
            return read is not None
        return self._files is not None and self._files == self._files_of(read)

    def are_learned_by(self, training: dict[str, Any]) -> bool:
        """Whether a training's model is of these examples."""
        return training[t.DATASET] == self.dataset and self.are_read_by(training)

    @cached_property
    def _files(self) -> list[str] | None:
        return self._files_of(self.version)

    def _files_of(self, version: int) -> list[str] | None:
        partition = {t.DATASET: self.dataset}
        try:
            return self.reader.files(t.EXAMPLES.name, version=version, partition=partition)
        except InputDataError:  # the log does not have the version any more
            return None


def probe_baseline(examples: SameExamples, split: str) -> Baseline | None:
    """What a training must beat: the last probe of the same examples.

    A probe of a model that has learned from these examples is none.

    Args:
        examples: that were probed.
        split: it was measured on.

    Returns:
        The baseline; None where nobody has probed them.
    """
    for run in reversed(_runs(examples.reader)):
        is_probe = (run[t.JOB], run[t.DATASET]) == (PROBE, examples.dataset)
        if not is_probe or run[t.OUTCOME] != t.DONE or not examples.are_read_by(run):
            continue
        figures = _figures(examples, run[t.RUN_ID], run[t.MODEL_ID], split)
        if TOP1 in figures and not has_learned(run[t.DETAIL], examples):
            return Baseline(run[t.DETAIL], figures[TOP1])
    return None


def evaluated_model(examples: SameExamples, split: str) -> tuple[str, dict[str, float]] | None:
    """The newest model that has learned from these examples and was measured on them.

    Returns:
        Its id and the figures of its last evaluation, by name; None where there is none.
    """
    runs = {run[t.RUN_ID]: run for run in _runs(examples.reader)}
    for model_id in reversed(_models(examples)):
        for run_id in sorted(_evaluated(examples, model_id, split), reverse=True):  # by time
            if run_id in runs and examples.are_read_by(runs[run_id]):
                return model_id, _figures(examples, run_id, model_id, split)
    return None


def has_learned(network: str, examples: SameExamples) -> bool:
    """Whether a network, by its name in `embeddings`, is a model trained on these examples."""
    return network in [MODEL + model_id for model_id in _models(examples)]


def _models(examples: SameExamples) -> list[str]:
    """The models that were trained on these examples, by the end of their training."""
    return [run[t.MODEL_ID] for run in trainings(examples.reader) if examples.are_learned_by(run)]


def _runs(reader: LakeReader) -> list[dict[str, Any]]:
    """All runs, by their start."""
    if not reader.exists(t.RUNS.name):
        return []
    rows = reader.dataset(t.RUNS.name).to_table().to_pylist()
    return sorted(rows, key=lambda row: (row[t.STARTED_AT], row[t.RUN_ID]))


def _of_whole(
    examples: SameExamples, model_id: str, split: str, where: pads.Expression
) -> list[dict[str, Any]]:
    """The rows of `evaluations` with a model's figures of a whole split."""
    if not examples.reader.exists(t.EVALUATIONS.name):
        return []
    is_whole = (
        (pads.field(t.MODEL_ID) == model_id)
        & (pads.field(t.DATASET) == examples.dataset)
        & (pads.field(t.SPLIT) == split)
        & pads.field(t.CATEGORY).is_null()
        & pads.field(t.SLICE).is_null()
        & pads.field(t.OTHER_MODEL_ID).is_null()
        & pads.field(t.VALUE).is_valid()
    )
    rows = examples.reader.dataset(t.EVALUATIONS.name)
    found: list[dict[str, Any]] = rows.to_table(filter=is_whole & where).to_pylist()
    return found


def _figures(examples: SameExamples, run_id: str, model_id: str, split: str) -> dict[str, float]:
    """The figures of the whole that a run has left of a model, by name."""
    rows = _of_whole(examples, model_id, split, pads.field(t.RUN_ID) == run_id)
    return {row[t.METRIC]: row[t.VALUE] for row in rows}


def _evaluated(examples: SameExamples, model_id: str, split: str) -> set[str]:
    """The runs that have measured a model, on whatever version of the examples."""
    rows = _of_whole(examples, model_id, split, pads.field(t.METRIC) == TOP1)
    return {row[t.RUN_ID] for row in rows}
