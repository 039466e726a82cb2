"""A trained model in a worker's memory: JPEGs or photos in, probabilities out."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from croplake import storage
from croplake.errors import InputDataError
from croplake.inference.network import (
    Photo,
    Probabilities,
    Run,
    Squares,
    decode_with_tensorflow,
    load_network,
)
from croplake.model_export.formats import CARD

MODEL_FILE: Final = "model.keras"
LABELS_FILE: Final = "labels.json"
SETTINGS_FILE: Final = "settings.json"
STATUS_NOT_FINITE: Final = "not_finite"
"""The network's answer is NaN or infinite: its weights are, its training has diverged."""
MODEL_ENDINGS: Final = (".keras", ".h5")
"""How the file of a network is called."""
_STEP: Final = 256
"""Pictures the network sees at once, whatever the caller hands over."""


class Classifier:
    """A network with the names of its outputs; made by `load_classifier`.

    Attributes:
        categories: C names, in the order of the probabilities.
        side_px: side of the squares the network was trained on.
    """

    def __init__(
        self,
        run: Run,
        decode: Callable[[bytes, int], Squares],
        categories: tuple[str, ...],
        side_px: int,
    ) -> None:
        self._run = run
        self._decode = decode
        self.categories = categories
        self.side_px = side_px

    def predict(self, squares_NHWC: Squares) -> Probabilities:
        """Runs the network.

        Args:
            squares_NHWC: uint8 RGB, shape (N, side_px, side_px, 3), as `decode_jpeg` and
                `fit_photo` give them; N may be 0.

        Returns:
            float32 probabilities, shape (N, C).
        """
        parts = [np.zeros((0, len(self.categories)), np.float32)]
        for start in range(0, len(squares_NHWC), _STEP):
            parts.append(self._run(squares_NHWC[start : start + _STEP]))
        return np.concatenate(parts)

    def decode_jpeg(self, jpeg: bytes) -> Squares:
        """Decodes a crop with the very function that training reads with.

        Returns:
            uint8 RGB, shape (side_px, side_px, 3).

        Raises:
            PhotoError: it cannot be decoded (`broken_photo`).
        """
        return self._decode(jpeg, self.side_px)

    def fit_photo(self, photo_HWC: Photo) -> Photo:
        """Brings a photo to the network's size, as small in memory as it will get.

        Like a crop in training it becomes a square whatever its shape. Photos are many times larger
        than crops, so each pixel is an average of those it stands for.

        Args:
            photo_HWC: uint8 RGB, shape (height, width, 3).

        Returns:
            uint8 RGB, shape (side_px, side_px, 3).
        """
        return fit_photo(photo_HWC, self.side_px)


def fit_photo(photo_HWC: Photo, side_px: int) -> Photo:
    """Brings a photo to a network's size; see `Classifier.fit_photo`."""
    size = (side_px, side_px)
    return np.asarray(Image.fromarray(photo_HWC).resize(size, Image.Resampling.BILINEAR))


def read_labels(model: str) -> tuple[str, ...]:
    """Reads the categories of a model without loading the model itself.

    Args:
        model: folder of a model, or its `.keras` or `.h5` file; a path or an address.

    Returns:
        The categories by their index.

    Raises:
        InputDataError: there is no `labels.json`, or it is no list of distinct names.
    """
    uri = storage.join(_folder(model), LABELS_FILE)
    labels = _read_json(uri)
    if (
        not isinstance(labels, list)
        or not labels
        or not all(isinstance(label, str) for label in labels)
        or len(set(labels)) != len(labels)
    ):
        raise InputDataError(f"{uri}: expected a JSON list of distinct category names")
    return tuple(labels)


def check_model(model: str) -> None:
    """Finds out, without TensorFlow, whether a model's files are there and make sense.

    Raises:
        InputDataError: a file is missing or cannot be read.
    """
    read_labels(model)
    read_side_px(model)
    if not storage.exists(_file(model)):
        raise InputDataError(f"{_file(model)}: no such model")


@functools.lru_cache(maxsize=2)
def load_classifier(model: str) -> Classifier:
    """Loads a trained model, once in a process.

    Args:
        model: folder of a model, or its `.keras` or `.h5` file; a path or an address.

    Returns:
        The classifier.

    Raises:
        InputDataError: a file is missing or cannot be read, or the network has another number of
            outputs than there are labels.
    """
    check_model(model)
    categories, side_px, file = read_labels(model), read_side_px(model), _file(model)
    run, num_outputs = load_network(file, side_px)
    if num_outputs != len(categories):
        raise InputDataError(
            f"{file} has {num_outputs} outputs, its {LABELS_FILE} has {len(categories)} labels"
        )
    return Classifier(run, decode_with_tensorflow, categories, side_px)


def _folder(model: str) -> str:
    if not model.endswith(MODEL_ENDINGS):
        return model
    return model.rsplit("/", 1)[0] if "/" in model else "."


def _file(model: str) -> str:
    return model if model.endswith(MODEL_ENDINGS) else storage.join(model, MODEL_FILE)


def _read_json(uri: str) -> object:
    try:
        content: object = json.loads(storage.read_bytes(uri))
    except (OSError, ValueError) as error:
        raise InputDataError(f"{uri}: {error}; expected a folder that training wrote") from error
    return content


def read_side_px(model: str) -> int:
    """Reads the side of the squares that a model was trained on, without loading it.

    Args:
        model: folder of a model, or its `.keras` or `.h5` file; a path or an address.

    Raises:
        InputDataError: there is no `settings.json`, nor an export's `croplake.json`, or it does not
            say.
    """
    uri = _settings_of(model)
    settings = _read_json(uri)
    side_px = settings.get("input_side_px") if isinstance(settings, dict) else None
    if not isinstance(side_px, int) or side_px < 1:
        raise InputDataError(f"{uri}: input_side_px must be a number of pixels, got {side_px!r}")
    return side_px


def has_side_px(model: str) -> bool:
    """Whether there is a file for `read_side_px`."""
    return storage.exists(_settings_of(model))


def read_model_id(file: str) -> str | None:
    """The id that an exported model had in its lake: it is told in the file itself.

    Args:
        file: `.keras` or `.h5`; a path or an address.

    Returns:
        None where it is no export, or one that was saved anew since.
    """
    try:
        with storage.local_file(file) as path:
            text = _of_zip(path) if zipfile.is_zipfile(path) else _of_hdf5(path)
        card = json.loads(text)
    # No such member, not even a container, or no JSON in it.
    except (KeyError, OSError, ValueError, zipfile.BadZipFile):
        return None
    model_id = card.get("model_id") if isinstance(card, dict) else None
    return model_id if isinstance(model_id, str) else None


def _of_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as members:
        return members.read(CARD)


def _of_hdf5(path: Path) -> bytes:
    import h5py

    with h5py.File(path) as members:
        return bytes(members[CARD][()])


def _settings_of(model: str) -> str:
    settings, card = (storage.join(_folder(model), name) for name in (SETTINGS_FILE, CARD))
    return card if storage.exists(card) and not storage.exists(settings) else settings
