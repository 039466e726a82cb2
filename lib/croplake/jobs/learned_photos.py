"""Whether a model has learned from the photos that it is to be judged by."""

from __future__ import annotations

from typing import Any, Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.lake import Lake

_LEARNED: Final = ("train", "validation")
"""By the one its weights were found, by the other they were chosen."""


class LostExamplesError(InputDataError):
    """What a model was trained on is not all there any more."""


def count_learned(lake: Lake, trained: dict[str, Any], photos: DataFrame) -> int:
    """How many photos were in the training or the validation split of a model.

    `runs` is not told of the version that is read: it has one of each table, that of the examples
    that are asked about. `lake maintain` keeps what models were trained on.

    Args:
        lake: where.
        trained: the row of `runs` of the model's training.
        photos: with the column `image_id`; a photo counts once.

    Raises:
        LostExamplesError: nobody can tell any more.
    """
    dataset, version = trained[t.DATASET], trained[t.TABLES_READ].get(t.EXAMPLES.name)
    if not _is_whole(lake, dataset, version):
        raise LostExamplesError(
            f"{name_trained(trained)}: files it was trained on are gone, so it may know photos of "
            "this split"
        )
    is_learned = (F.col(t.DATASET) == dataset) & F.col(t.SPLIT).isin(*_LEARNED)
    learned = lake.read(t.EXAMPLES, version=version).where(is_learned).select(t.IMAGE_ID)
    asked = photos.select(t.IMAGE_ID).distinct()
    return asked.join(learned, on=t.IMAGE_ID, how="left_semi").count()


def name_trained(trained: dict[str, Any]) -> str:
    """A model and what it was trained on, for people."""
    version = trained[t.TABLES_READ].get(t.EXAMPLES.name)
    return f"model {trained[t.MODEL_ID]} (dataset {trained[t.DATASET]}, examples version {version})"


def _is_whole(lake: Lake, dataset: str, version: int | None) -> bool:
    if version is None:
        return False
    try:
        return not any(
            lake.reader.lost_files(
                t.EXAMPLES.name, version=version, partition={t.DATASET: dataset, t.SPLIT: split}
            )
            for split in _LEARNED
        )
    except InputDataError:  # the log does not have the version any more
        return False
