"""The models of a lake, found without Spark: what `runs` says of their training, their folders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.inference.model import MODEL_FILE
from croplake.reader import LakeReader

LATEST: Final = "latest"
MODELS: Final = "models"
"""The folder of a lake where its models lie."""
_TRAIN: Final = "train_classifier"
_MAPS: Final = (t.TABLES_READ, t.TABLES_WRITTEN, t.COUNTS)


@dataclass(frozen=True)
class TrainedModel:
    """A model whose files are there.

    Attributes:
        model_id: its name.
        dataset: that it was trained on.
        folder: its address.
        run: the row of `runs` of its training, maps as dicts.
    """

    model_id: str
    dataset: str
    folder: str
    run: dict[str, Any]


def model_folder(root: str, model_id: str) -> str:
    """The address of a model's folder in a lake."""
    return storage.join(root, MODELS, model_id)


def has_model(lake: LakeReader, model_id: str) -> bool:
    """Whether a model's file, which is written last, is there."""
    return storage.exists(storage.join(model_folder(lake.root, model_id), MODEL_FILE))


def trainings(lake: LakeReader) -> list[dict[str, Any]]:
    """The rows of `runs` of the trainings that ended well, by their end, maps as dicts."""
    if not lake.exists(t.RUNS.name):
        return []
    return trainings_among(lake.dataset(t.RUNS.name).to_table().to_pylist())


def trainings_among(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """As `trainings`, of rows of `runs` that are at hand."""
    done = [run for run in runs if run[t.JOB] == _TRAIN and run[t.OUTCOME] == t.DONE]
    done.sort(key=lambda run: (run[t.ENDED_AT], run[t.RUN_ID]))
    return [run | {column: dict(run[column] or ()) for column in _MAPS} for run in done]


def find_model(lake: LakeReader, dataset: str, model_id: str) -> TrainedModel:
    """Looks a model up.

    Args:
        lake: where.
        dataset: whose newest model `latest` is, of those whose files are there.
        model_id: or `latest`.

    Raises:
        InputDataError: there is no such model, or its files are gone; the text names what is there.
    """
    trained = trainings(lake)
    if model_id == LATEST:
        asked = f"of dataset {dataset}"
        found = [run for run in trained if run[t.DATASET] == dataset]
        # The newest first: an older one is not looked for where a newer one is there.
        while len(found) > 1 and not has_model(lake, found[-1][t.MODEL_ID]):
            found.pop()
    else:
        asked = model_id
        found = [run for run in trained if run[t.MODEL_ID] == model_id]
    if not found:
        raise InputDataError(
            f"{lake.root}: the lake has no model {asked}; {_there(lake, trained)}, and "
            "train_classifier makes one"
        )
    run = found[-1]
    folder = model_folder(lake.root, run[t.MODEL_ID])
    if not has_model(lake, run[t.MODEL_ID]):
        raise InputDataError(
            f"{storage.join(folder, MODEL_FILE)}: model {run[t.MODEL_ID]} was trained, its file "
            f"is gone; {_there(lake, trained)}"
        )
    return TrainedModel(run[t.MODEL_ID], run[t.DATASET], folder, run)


def _there(lake: LakeReader, trained: Iterable[dict[str, Any]]) -> str:
    names = [run[t.MODEL_ID] for run in trained if has_model(lake, run[t.MODEL_ID])]
    return f"there are {', '.join(names)}" if names else "there is none"
