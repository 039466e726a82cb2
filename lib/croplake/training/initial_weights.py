"""Initial weights from a file: a base alone, or an earlier classifier."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from croplake import storage
from croplake.errors import SettingsError
from croplake.training.base_network import flat_layers, settle_normalization

_log = logging.getLogger(__name__)

_MAX_NAMED: Final = 3


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
        SettingsError: there is no such file, or it does not fill the whole base, or it has layers
            that the base has not. A base that is half filled would pass random numbers on.
    """
    layers = [layer for layer in flat_layers(base) if layer.weights]
    before = [weight.numpy() for weight in base.weights]
    with _local_file(uri) as path:
        try:
            source = None if path.name.endswith(".weights.h5") else _load_whole(path)
            if source is not None:
                filled, left = _transfer_by_name(source, base)
                _transfer_by_name(source, model)
            else:
                filled, left = _load_weights_alone(model, base, path), []
        except ValueError as error:
            raise SettingsError(
                f"train.weights: {uri} cannot be read: {error}; expected a .keras, .h5 or "
                ".weights.h5 file that Keras wrote"
            ) from error
    settle_normalization(model)
    if filled == len(layers) and not left:
        return
    for weight, value in zip(base.weights, before, strict=True):
        weight.assign(value)
    found = f"fits {filled} of the {len(layers)} layers of {base_name}"
    if left:
        found += f", which has not its layers {', '.join(left[:_MAX_NAMED])}"
        found += ", …" if left[_MAX_NAMED:] else ""
    raise SettingsError(
        f"train.weights: {uri} {found} ({base.count_params():,} weights); it must come from a "
        f"{base_name} of the same train.alpha, or from a classifier that croplake trained with it"
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
    """A saved model; None where the file holds weights alone.

    Raises:
        ValueError: a `.keras` file, which is whole, is none that Keras reads.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever the format's reader met
        if path.name.endswith(".keras"):
            raise ValueError(error) from error
        _log.info("%s is no whole model: %s", path, error)
        return None


def _transfer_by_name(source: keras.Model, target: keras.Model) -> tuple[int, list[str]]:
    """Copies the weights of layers of the same name and shapes.

    Returns:
        How many layers were filled, and the names of those among them in the source, before the
        last of them, that the target has not: of a deeper network of the same kind. What comes
        behind them is the source's own head.
    """
    known = _by_stem(source)
    filled = set()
    for stem, layer in _by_stem(target).items():
        if stem not in known:
            continue
        values = known[stem].get_weights()
        if [value.shape for value in values] == [tuple(weight.shape) for weight in layer.weights]:
            layer.set_weights(values)
            filled.add(stem)
    stems = list(known)
    last = max((stems.index(stem) for stem in filled), default=0)
    return len(filled), [known[stem].name for stem in stems[:last] if stem not in filled]


def _by_stem(model: keras.Model) -> dict[tuple[str, int], Any]:
    """Layers with weights by the name that they have in any process.

    Keras numbers unnamed layers on through a process (normalization, normalization_1, …): they are
    told by the name without the number, and their place among those of that name.
    """
    found: dict[tuple[str, int], Any] = {}
    for layer in flat_layers(model):
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


def _load_weights_alone(model: keras.Model, base: keras.Model, path: Path) -> int:
    """Tries the file as the base's weights, then as a classifier's, its softmax of any size.

    Returns:
        How many layers of the base were filled.

    Raises:
        ValueError: neither could be read.
    """
    attempts: list[Callable[[], None]] = [
        lambda: base.load_weights(path),
        lambda: model.load_weights(path, skip_mismatch=True),
    ]
    filled, errors = 0, []
    for attempt in attempts:
        # A marker no trained layer can hold: what is still there was not filled.
        for weight in base.weights:
            weight.assign(np.full(weight.shape, np.nan, np.float32))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                attempt()
        except Exception as error:  # Keras raises whatever the format's reader met
            errors.append(error)
            _log.info("%s: %s", path, error)
        layers = [layer for layer in flat_layers(base) if layer.weights]
        now = sum(all(np.isfinite(v).all() for v in layer.get_weights()) for layer in layers)
        if now == len(layers):
            return now
        filled = max(filled, now)
    if isinstance(errors[-1] if len(errors) == len(attempts) else None, OSError):
        raise ValueError(errors[-1]) from errors[-1]
    return filled
