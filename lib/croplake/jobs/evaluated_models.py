"""Which models an evaluation asks, and whether they may be asked about these examples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pyspark.sql import DataFrame

from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import InputDataError, SettingsError
from croplake.inference.model import read_labels
from croplake.jobs.context import JobContext
from croplake.jobs.learned_photos import LostExamplesError, count_learned, name_trained
from croplake.lake import Lake
from croplake.models import find_model

_MAX_NAMED: Final = 5
_MAX_ID_CHARS: Final = 120
_OF_TRAINING: Final = {
    "train": "has learned this split",
    "validation": "may have been stopped, and its weights chosen, by this split",
}
"""What a training has done with a split of its snapshot."""


@dataclass(frozen=True)
class Chosen:
    """A model, or several that are asked as one.

    Attributes:
        runs: the rows of `runs` that trained them.
        folders: where they lie.
        categories: of all of them, by label index.
    """

    runs: tuple[dict[str, Any], ...]
    folders: tuple[str, ...]
    categories: tuple[str, ...]

    @property
    def model_id(self) -> str:
        """Its name: the models', joined by `+`."""
        return "+".join(run[t.MODEL_ID] for run in self.runs)

    @property
    def members(self) -> tuple[str, ...]:
        """The ids of an ensemble's models; none of a single model."""
        return tuple(run[t.MODEL_ID] for run in self.runs) if len(self.runs) > 1 else ()

    @property
    def dataset(self) -> str:
        """The dataset that the first of them was trained on."""
        return str(self.runs[0][t.DATASET])

    @property
    def version(self) -> int:
        """The version of `examples` that the first of them was trained on."""
        return int(self.runs[0][t.TABLES_READ][t.EXAMPLES.name])

    @property
    def settings(self) -> Settings | None:
        """What the first of them was trained under; None where an older croplake wrote it."""
        try:
            return Settings.model_validate_json(self.runs[0][t.SETTINGS])
        except ValidationError:
            return None


def choose_models(lake: Lake, settings: Settings) -> tuple[Chosen, Chosen | None]:
    """What is measured, and what it is compared with.

    Raises:
        InputDataError: there is no such model, or the models have not the same categories.
        SettingsError: a model is named twice, or compared with itself.
    """
    conf = settings.evaluate
    first = _choose(lake, settings, conf.ensemble or (conf.model,))
    if conf.compare_with is None:
        return first, None
    second = _choose(lake, settings, (conf.compare_with,))
    if second.model_id == first.model_id:
        raise SettingsError(
            f"evaluate.compare_with: {second.model_id} is the model that is evaluated; expected "
            "another one (or null)"
        )
    _check_same(first, second.model_id, second.categories)
    return first, second


def _choose(lake: Lake, settings: Settings, model_ids: Sequence[str]) -> Chosen:
    dataset = settings.dataset.name
    models = [find_model(lake.reader, dataset, model_id) for model_id in model_ids]
    runs = tuple(model.run for model in models)
    if len({run[t.MODEL_ID] for run in runs}) != len(runs):
        raise SettingsError(
            f"evaluate.ensemble: {', '.join(model_ids)} names a model twice; expected distinct ones"
        )
    folders = tuple(model.folder for model in models)
    chosen = Chosen(runs, folders, read_labels(folders[0]))
    for run, folder in zip(runs[1:], folders[1:], strict=True):
        _check_same(chosen, run[t.MODEL_ID], read_labels(folder))
    return chosen


def _check_same(chosen: Chosen, model_id: str, categories: tuple[str, ...]) -> None:
    if categories == chosen.categories:
        return
    odd = sorted(set(categories) ^ set(chosen.categories))
    named = ", ".join(map(repr, odd[:_MAX_NAMED]))
    what = f"only one of them knows {named}" if odd else "they have them in another order"
    raise InputDataError(
        f"models {chosen.runs[0][t.MODEL_ID]} ({len(chosen.categories)} categories) and {model_id} "
        f"({len(categories)}): {what}; expected models of the same categories, so that one "
        "probability is of the same thing in both"
    )


def page_name(first: Chosen, second: Chosen | None, split: str) -> str:
    """The name of the page's file."""
    ids = [first.model_id, *([second.model_id] if second else [])]
    return "_vs_".join(map(_short, ids)) + f"_{split}.html"


def _short(model_id: str) -> str:
    """A long ensemble's name as part of a file's, which may not have any length."""
    if len(model_id) <= _MAX_ID_CHARS // 2 or "+" not in model_id:
        return model_id[:_MAX_ID_CHARS]
    members = model_id.split("+")
    digest = hashlib.sha256(model_id.encode()).hexdigest()[:8]
    return f"{members[0][:_MAX_ID_CHARS]}+{len(members) - 1}-{digest}"


def tell_of_leaks(
    context: JobContext, examples: DataFrame, first: Chosen, second: Chosen | None
) -> Iterator[str]:
    """Tells of photos that one of the models has learned from.

    Of a model's own snapshot it has learned the training split, may have been chosen by the
    validation split, and knows no other photo, as splits are of photos. A model of another
    snapshot, or of another dataset, may have learned what is asked here.

    Args:
        context: of the evaluation.
        examples: what is asked about.
        first: the models whose snapshot it is.
        second: what they are compared with.

    Yields:
        A sentence a model that had such photos, or of which it cannot be told.
    """
    split = context.settings.evaluate.split
    for run in (*first.runs, *(second.runs if second else ())):
        snapshot = run[t.DATASET], run[t.TABLES_READ].get(t.EXAMPLES.name)
        if snapshot == (first.dataset, first.version):
            if split in _OF_TRAINING:
                yield f"{name_trained(run)} {_OF_TRAINING[split]}, so it does better there"
            continue
        try:
            num_learned = count_learned(context.lake, run, examples)
        except LostExamplesError as error:
            yield str(error)
            continue
        if num_learned:
            yield (
                f"{name_trained(run)} has had {num_learned:,} photos of this {split} split in its "
                "training or its validation: its figures may be better than it is"
            )
