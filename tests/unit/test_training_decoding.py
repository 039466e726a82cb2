"""A crop's JPEG as the network's square."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.training_data import Pixels, jpeg_of

tf = pytest.importorskip("tensorflow")

from croplake.training.decoding import decode_image  # noqa: E402

SIDE = 32


def drawing(height: int, width: int) -> Pixels:
    """Smooth colours with an edge: what a photo is, to a resampler."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    channels = [255 * x / x.max(initial=1), 255 * y / y.max(initial=1), 200 * (x > y) + 20]
    pixels: Pixels = np.stack(channels, axis=-1).astype(np.uint8)
    return pixels


@pytest.mark.parametrize(
    "size", [(200, 300), (33, 32), (32, 32), (20, 9), (7, 90), (256, 31), (1, 1)]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decoding_agrees_with_pillow(size: tuple[int, int], mode: str) -> None:
    target = io.BytesIO()
    Image.fromarray(drawing(*size)).convert(mode).save(target, "JPEG", quality=92)
    decoded = decode_image(tf.constant(target.getvalue()), SIDE).numpy()
    photo = Image.open(target).convert("RGB")
    expected = np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert (decoded.shape, decoded.dtype) == ((SIDE, SIDE, 3), np.uint8)
    difference = np.abs(decoded.astype(int) - expected.astype(int))
    assert difference.max() <= 2
    assert difference.mean() <= 0.5


@pytest.mark.parametrize("data", [b"", b"no JPEG", jpeg_of(drawing(40, 40))[:-200]])
def test_what_is_no_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(data), SIDE)
