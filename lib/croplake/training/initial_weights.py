"""Initial weights from a file: a base alone, or an earlier classifier."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from croplake import storage
from croplake.errors import SettingsError

_log = logging.getLogger(__name__)


def load_initial_weights(model: keras.Model, base: keras.Model, base_name: str, uri: str) -> None:
    """Fills the base, and of the head what fits, from a file.

    Whole models (`.keras`, `.h5`) are matched by the names of their layers; files of weights
    alone (`.weights.h5`, the older `.h5`) by their structure.

    Args:
        model: the classifier.
        base: the network in it.
        base_name: what Keras calls it.
        uri: path or address of the file.

    Raises:
        SettingsError: there is no such file, or it does not fill the whole base. A base that is
            half filled would pass random numbers on.
    """
    with _local_file(uri) as path:
        before = [weight.numpy() for weight in base.weights]
        source = None if path.name.endswith(".weights.h5") else _load_whole(path)
        if source is not None:
            filled = _transfer_by_name(source, base)
            _transfer_by_name(source, model)
        else:
            filled = _load_weights_alone(model, base, path)
    layers = [layer for layer in base.layers if layer.weights]
    if filled < len(layers):
        for weight, value in zip(base.weights, before, strict=True):
            weight.assign(value)
        raise SettingsError(
            f"train.weights: {uri} fits {filled} of the {len(layers)} layers of {base_name} "
            f"({base.count_params():,} weights); it must come from a {base_name} of the same "
            "train.alpha, or from a classifier that croplake trained with it"
        )


@contextmanager
def _local_file(uri: str) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            path = stack.enter_context(storage.local_file(uri))
        except OSError as error:
            raise SettingsError(
                f"train.weights: {uri} cannot be read on this worker: {error}; give imagenet, "
                "none, or a .keras, .h5 or .weights.h5 file that every worker can read"
            ) from error
        yield path


def _load_whole(path: Path) -> keras.Model | None:
    """A saved model; None where the file holds weights alone."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever the format's reader met
        _log.info("%s is no whole model: %s", path, error)
        return None


def _transfer_by_name(source: keras.Model, target: keras.Model) -> int:
    """Copies the weights of layers of the same name and shapes, and counts them."""
    known = _by_stem(source)
    filled = 0
    for stem, layer in _by_stem(target).items():
        if stem not in known:
            continue
        values = known[stem].get_weights()
        if [value.shape for value in values] == [tuple(weight.shape) for weight in layer.weights]:
            layer.set_weights(values)
            filled += 1
    return filled


def _by_stem(model: keras.Model) -> dict[tuple[str, int], Any]:
    """Layers with weights by the name that they have in any process.

    Keras numbers unnamed layers on through a process (normalization, normalization_1, …): they are
    told by the name without the number, and their place among those of that name.
    """
    found: dict[tuple[str, int], Any] = {}
    for layer in _flat_layers(model):
        if layer.weights:
            automatic = _snake_case(type(layer).__name__)
            is_numbered = re.fullmatch(rf"{automatic}(_\d+)?", layer.name)
            stem = automatic if is_numbered else layer.name
            place = sum(known == stem for known, _ in found)
            found[stem, place] = layer
    return found


def _snake_case(name: str) -> str:
    """A class' name as Keras names its layers."""
    parted = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", parted).lower()


def _flat_layers(model: keras.Model) -> list[Any]:
    layers = []
    for layer in model.layers:
        layers += _flat_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return layers


def _load_weights_alone(model: keras.Model, base: keras.Model, path: Path) -> int:
    """Tries the file as the base's weights, then as a classifier's, its softmax of any size."""
    attempts: list[Callable[[], None]] = [
        lambda: base.load_weights(path),
        lambda: model.load_weights(path, skip_mismatch=True),
    ]
    filled = 0
    for attempt in attempts:
        # A marker no trained layer can hold: what is still there was not filled.
        for weight in base.weights:
            weight.assign(np.full(weight.shape, np.nan, np.float32))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                attempt()
        except Exception as error:  # Keras raises whatever the format's reader met
            _log.info("%s: %s", path, error)
        layers = [layer for layer in base.layers if layer.weights]
        now = sum(all(np.isfinite(v).all() for v in layer.get_weights()) for layer in layers)
        if now == len(layers):
            return now
        filled = max(filled, now)
    return filled
