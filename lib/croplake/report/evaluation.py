"""What the page about a model says, beside its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from croplake.evaluation.evaluated import Baseline, Comparison, Evaluated
from croplake.report.gallery import GalleryCrop


@dataclass(frozen=True)
class EvaluationFigures:
    """All that the page says; a part that has no data is None or empty.

    Attributes:
        dataset: whose examples were asked about.
        split: of the dataset.
        made_at: when that was, UTC.
        versions: of every table that was read.
        evaluated: the model, or the ensemble.
        comparison: with another; None where none was asked for.
        baseline: of the same examples; None where nobody has probed them.
        history: a record an epoch, as training left it; None where there is none.
        mistakes: the most confident mistakes, the worst first.
        only_first: what only the model has right.
        only_second: what only the other has right.
        confusion_png: the confusion matrix as a picture.
        notes: what somebody should know before they believe the figures.
    """

    dataset: str
    split: str
    made_at: datetime
    versions: Mapping[str, int]
    evaluated: Evaluated
    comparison: Comparison | None = None
    baseline: Baseline | None = None
    history: Sequence[Mapping[str, float]] | None = None
    mistakes: Sequence[GalleryCrop] = ()
    only_first: Sequence[GalleryCrop] = ()
    only_second: Sequence[GalleryCrop] = ()
    confusion_png: bytes | None = None
    notes: Sequence[str] = field(default_factory=tuple)
