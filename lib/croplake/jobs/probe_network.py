"""Which network makes the vectors: the settings' word for it, and a file that tasks can read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pyspark.sql import DataFrame

from croplake import storage, summary
from croplake import tables as t
from croplake.errors import CroplakeError, IncompleteError, InputDataError, SettingsError
from croplake.inference.embedding import AboutNetwork, EmbeddingNetwork, digest_of_file
from croplake.inference.imagenet import DEFAULT_BASE, PREFIX
from croplake.inference.model import (
    LABELS_FILE,
    MODEL_ENDINGS,
    MODEL_FILE,
    has_side_px,
    read_model_id,
    read_side_px,
)
from croplake.jobs.context import JobContext
from croplake.jobs.learned_photos import LostExamplesError, count_learned
from croplake.jobs.probe_baseline import MODEL, SameExamples
from croplake.models import find_model, has_model, model_folder, trainings
from croplake.training.process import MODEL_H5_FILE

NETWORKS: Final = "networks"
"""The folder of a lake where foreign networks lie that made its embeddings."""

About = Callable[[EmbeddingNetwork], AboutNetwork]
Chosen = tuple[EmbeddingNetwork, AboutNetwork]
_FILE: Final = "file:"


def choose_network(context: JobContext, tested: DataFrame, about: About) -> Chosen:
    """Finds the network that `probe.network` means.

    Args:
        context: of the job.
        tested: `image_id` of the photos of the test split.
        about: loads a network and says what it is.

    Raises:
        SettingsError: there is no such base or file.
        InputDataError: there is no such model, it has learned photos of the test split, or it is
            no network that gives vectors.
        IncompleteError: ImageNet weights can not be had, and for `auto` there is nothing else.
    """
    conf = context.settings.probe
    word = conf.network
    if word == "auto":
        return _choose(context, tested, about)
    if word == "imagenet" or word.startswith(PREFIX):
        network = _of_imagenet(word.removeprefix("imagenet").removeprefix(":"), conf.input_side_px)
    elif word.endswith(MODEL_ENDINGS) or "/" in word:
        network = _of_path(context, word, "probe.network", tested)
    else:
        model = find_model(context.lake.reader, context.settings.dataset.name, word)
        _refuse_learned(context, model.run, tested)
        network = _of_model(context, model.model_id)
    return network, about(network)


def known_network(context: JobContext, name: str) -> EmbeddingNetwork:
    """The network that made rows of `embeddings`, by the name that these have of it.

    Raises:
        InputDataError: its file is not there any more.
    """
    if name.startswith(PREFIX):
        base, _, side_px = name.rpartition(" ")
        return EmbeddingNetwork(name, base, int(side_px))
    if name.startswith(MODEL):
        return _of_model(context, name.removeprefix(MODEL))
    folder = storage.join(context.lake.root, NETWORKS)
    digest, _, rest = name.removeprefix(_FILE).partition(" ")
    file, _, side_px = rest.rpartition(" ")
    address = storage.join(folder, digest, file)
    if not side_px.isdecimal() or not storage.exists(address):
        raise InputDataError(
            f"{address}: the network that made the embeddings is not there any more; run croplake "
            "probe-examples with probe.network set to it"
        )
    return EmbeddingNetwork(name, address, int(side_px))


def _choose(context: JobContext, tested: DataFrame, about: About) -> Chosen:
    conf = context.settings.probe
    network = _of_imagenet("", conf.input_side_px)
    try:
        return network, about(network)
    except IncompleteError as error:
        said = str(error)
    told = "probe.network: auto: ImageNet weights are not to be had"
    if conf.fallback is not None:
        network = _of_path(context, conf.fallback, "probe.fallback", tested)
        summary.warn(context.console, f"{told}; {network.name} takes their place")
        return network, about(network)
    for trained in _candidates(context):
        try:
            _refuse_learned(context, trained, tested)
            network = _of_model(context, trained[t.MODEL_ID])
            found = network, about(network)
        except CroplakeError as error:
            summary.warn(context.console, f"not taken: {error}")
            continue
        summary.warn(context.console, f"{told}; {network.name} takes their place")
        return found
    raise IncompleteError(
        f"{said}; there is no probe.fallback, and the lake has no earlier model that would do"
    )


def _candidates(context: JobContext) -> list[dict[str, Any]]:
    """The trainings of the lake, the newest first; before them those of other examples.

    What has learned the examples that are probed is no baseline of them.
    """
    reader, dataset = context.lake.reader, context.settings.dataset.name
    same = SameExamples(reader, dataset, context.pinned[t.EXAMPLES.name])
    newest_first = list(reversed(trainings(reader)))
    return sorted(newest_first, key=same.are_learned_by)


def _of_imagenet(base: str, side_px: int) -> EmbeddingNetwork:
    address = PREFIX + (base or DEFAULT_BASE)
    return EmbeddingNetwork(f"{address} {side_px}", address, side_px)


def _of_model(context: JobContext, model_id: str) -> EmbeddingNetwork:
    folder = model_folder(context.lake.root, model_id)
    address = storage.join(folder, MODEL_FILE)
    if not storage.exists(address):
        raise InputDataError(f"{address}: the model is not there any more; choose another network")
    return EmbeddingNetwork(MODEL + model_id, address, read_side_px(folder))


def _of_path(context: JobContext, path: str, setting: str, tested: DataFrame) -> EmbeddingNetwork:
    """The network of a file, be it the lake's own or somebody else's."""
    if not path.endswith(MODEL_ENDINGS) or not storage.exists(path):
        raise SettingsError(
            f"{setting}: {path}: no such network; expected auto, imagenet, imagenet:NAME, a model "
            "id, latest, or the path of a .keras or .h5 file"
        )
    trained = _training_of(context, path)
    if trained is None:
        return _of_file(context, path)
    _refuse_learned(context, trained, tested)
    return _of_model(context, trained[t.MODEL_ID])


def _training_of(context: JobContext, path: str) -> dict[str, Any] | None:
    """The training of the lake whose model a file is, or an export of; None where it is none's."""
    reader = context.lake.reader
    known = {
        row[t.MODEL_ID]: row for row in trainings(reader) if has_model(reader, row[t.MODEL_ID])
    }
    exported = read_model_id(path)
    if exported in known:
        return known[exported]
    size, digest = storage.size_bytes(path), None
    for model_id, trained in reversed(known.items()):
        for name in (MODEL_FILE, MODEL_H5_FILE):
            other = storage.join(model_folder(context.lake.root, model_id), name)
            if storage.size_bytes(other) == size:
                digest = digest or digest_of_file(path)
                if digest_of_file(other) == digest:
                    return trained
    return None


def _of_file(context: JobContext, path: str) -> EmbeddingNetwork:
    """Copies a network into the lake: tasks read it there, and whoever asks about its vectors."""
    digest, name = digest_of_file(path)[:12], path.rsplit("/", 1)[-1]
    side_px = context.settings.probe.input_side_px
    folder = path.rsplit("/", 1)[0] if "/" in path else "."
    # Beside labels they are of a model of croplake's; others are somebody else's.
    if storage.exists(storage.join(folder, LABELS_FILE)) and has_side_px(path):
        side_px = read_side_px(path)
    address = storage.join(context.lake.root, NETWORKS, digest, name)
    if not storage.exists(address):
        storage.write_bytes(address, storage.read_bytes(path))
    return EmbeddingNetwork(f"{_FILE}{digest} {name} {side_px}", address, side_px)


def _refuse_learned(context: JobContext, trained: dict[str, Any], tested: DataFrame) -> None:
    """A model that has seen the test split would shine on it.

    Raises:
        InputDataError: it has learned from photos of the test split, or nobody knows any more.
    """
    dataset = context.settings.dataset.name
    snapshot = trained[t.DATASET], trained[t.TABLES_READ].get(t.EXAMPLES.name)
    if snapshot == (dataset, context.pinned[t.EXAMPLES.name]):
        return
    try:
        num_learned = count_learned(context.lake, trained, tested)
    except LostExamplesError as error:
        raise InputDataError(f"{error}; choose another probe.network") from error
    if num_learned:
        raise InputDataError(
            f"model {trained[t.MODEL_ID]} has had {num_learned:,} photos of the test split of "
            f"dataset {dataset} in its training or its validation, it may do better there than on "
            "new photos; choose another probe.network"
        )
