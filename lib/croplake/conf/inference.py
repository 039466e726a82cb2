"""The settings of what asks a network: evaluation, classification, probes, similar crops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from croplake.conf.fields import ConfModel, Fraction, NotNegative, PositiveInt


class EvaluateConf(ConfModel):
    """Evaluation of a model."""

    model: str = "latest"
    """Model id, or `latest`: the dataset's newest whose files are there."""
    ensemble: tuple[str, ...] = ()
    """Model ids that are evaluated as one instead of `model`: the mean of their probabilities."""
    compare_with: str | None = None
    """Model id to compare with on the same examples, by a paired test; null compares nothing."""
    split: Literal["train", "validation", "test"] = "test"
    """Split it is measured on."""
    batch_size: PositiveInt = 256
    """Examples of a step."""
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    """How often photos are drawn anew for a 95 % interval."""
    seed: int = 17
    """Seed of these draws."""
    pictures: NotNegative = 24
    """Pictures on the page: most confident mistakes, and of a comparison, what only one has right;
    so many of each at most."""
    picture_bytes: PositiveInt = 5_000_000
    """Bytes of all these pictures in the page."""
    thumbnail_side_px: Annotated[int, Field(ge=16, le=1024)] = 128
    """Greatest side of a picture in the page; larger ones are scaled down."""

    @field_validator("ensemble")
    @classmethod
    def _several_models(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if len(models) == 1 or len(set(models)) != len(models):
            raise ValueError(f"expected two or more distinct model ids, got {list(models)}")
        return models


class ClassifyConf(ConfModel):
    """Classification of new photos."""

    photos: tuple[str, ...] = ()
    """Folders, globs or files, local or `s3a://`; http(s) addresses; `@FILE` reads a list of them,
    one a line; `delta:TABLE#COLUMN` takes a Delta table's column of paths, addresses or bytes,
    `delta:TABLE#COLUMN,NAME` names photos that are given by their bytes by another column than
    `path`."""
    model: str = "latest"
    """Model id, `latest`, or the path of a model's folder, or of a `.keras` or `.h5` file beside
    its `labels.json` and `settings.json`, or an export's `croplake.json`."""
    min_probability: Fraction = 0.5
    """A photo whose best guess is below this has the status `unsure` instead of `ok`; 0 decides
    every photo."""
    batch_size: PositiveInt = 16
    """Photos of one prediction; small ones stay in a core's cache, a GPU wants hundreds."""
    transfers_per_task: PositiveInt = 4
    """Photos that a task reads or downloads, and decodes, at once."""
    top: PositiveInt = 5
    """Categories kept for a photo, best first."""
    csv: str | None = None
    """Where the predictions are also written as CSV; null is beside the table."""


class ProbeConf(ConfModel):
    """The baseline of `probe-examples`: a linear classifier on a network's vectors of the crops."""

    network: str = "auto"
    """`imagenet` (MobileNetV2) or `imagenet:NAME` (any base of `keras.applications`), the path of a
    `.keras` or `.h5` file, a model id or `latest`; `auto` is `imagenet` where its weights are to be
    had, else `fallback`, else the lake's newest model that was not trained on photos of the test
    split, of other examples if there is one."""
    fallback: str | None = None
    """Path of a `.keras` or `.h5` file for `auto`."""
    input_side_px: Annotated[int, Field(ge=32, le=1024)] = 224
    """Side of the square the network sees; a model of croplake, and one that takes a single size
    only, have their own."""
    crops: Literal["all", "examples"] = "all"
    """Whose vectors are made: `all` crops of the recipe that the examples were cut by, for other
    datasets' probes and for `find-similar`, or those of the dataset's `examples` alone."""
    batch_size: PositiveInt = 64
    """Crops of a step."""
    crops_per_commit: PositiveInt = 50_000
    """Crops whose vectors are committed together, about; a run that breaks off loses no more."""
    max_examples: PositiveInt = 200_000
    """Examples of the training split that the classifier learns from, and of the validation split,
    at most, about; of more, the same ones are drawn each time. The driver holds their vectors, four
    bytes a number."""


class SimilarConf(ConfModel):
    """What `find-similar` compares."""

    network: str = "newest"
    """Whose embeddings, by the name that the table `embeddings` has of it or the beginning of that
    name; `newest` are those that were made last."""
    exact_up_to: NotNegative = 200_000
    """Up to so many crops each is compared; of more, an index of faiss names the nearest, kept in
    `~/.cache/croplake` and made anew when the embeddings have changed."""
    max_index_bytes: PositiveInt = 16_000_000_000
    """Greatest size of such an index, one byte a number; it is held in memory while it is made."""
