"""Networks of `keras.applications` with ImageNet weights, as they come."""

from __future__ import annotations

import hashlib
from typing import Final

from croplake.errors import SettingsError
from croplake.inference.network import Run, asked_of, compiled, pooled, prepare_tensorflow
from croplake.training.bases import find_base

PREFIX: Final = "imagenet:"
DEFAULT_BASE: Final = "MobileNetV2"


def load_imagenet_embedder(name: str, side_px: int) -> tuple[Run, int, str]:
    """Loads a bare base with ImageNet weights as one that makes vectors.

    Args:
        name: of the base, as `keras.applications` has it.
        side_px: side of the squares it will be given.

    Returns:
        The network as a function of uint8 squares, shape (N, side_px, side_px, 3), to float32
        vectors, shape (N, D); D; and a SHA-256 of its weights.

    Raises:
        SettingsError: there is no such base, or it takes no squares of this side.
        IncompleteError: its weights can not be had.
    """
    prepare_tensorflow()
    import keras

    from croplake.training.base_network import make_base, one_download, preprocess

    asked = f"probe.network: {PREFIX}{name}"
    try:
        preprocessing = find_base(name).preprocessing
    except ValueError as error:
        raise SettingsError(f"{asked}: {error}") from error
    keras.config.disable_interactive_logging()  # else a download counts its bytes
    with one_download():
        base = make_base(name, weights="imagenet", side_px=side_px, asked=asked)
    images = keras.Input((None, None, 3), dtype="uint8")
    maps = base(preprocess(images, preprocessing, side_px), training=False)
    vectors, num_features = pooled(maps, PREFIX + name)
    digest = hashlib.sha256()
    for weight in base.get_weights():
        digest.update(weight.tobytes())
    return (
        compiled(asked_of(keras.Model(images, vectors)), side_px),
        num_features,
        digest.hexdigest(),
    )
