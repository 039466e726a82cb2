"""A crop's JPEG as the network's square, the same in training and evaluation."""

from __future__ import annotations

import tensorflow as tf


def decode_image(jpeg: tf.Tensor, side_px: int) -> tf.Tensor:
    """Decodes and squeezes a crop into a square, in the TensorFlow graph.

    Args:
        jpeg: scalar string, a JPEG file.
        side_px: side of the square.

    Returns:
        uint8 RGB, shape (side_px, side_px, 3); the crop's own proportions are not kept.

    Raises:
        tf.errors.InvalidArgumentError: the bytes are no JPEG.
    """
    # The default method differs between builds of TensorFlow; the accurate one does not.
    image_HWC = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
    square_HWC = tf.image.resize(image_HWC, (side_px, side_px), method="bilinear", antialias=True)
    square_HWC = tf.ensure_shape(square_HWC, (side_px, side_px, 3))
    # As the layers of a saved model round; the mean of whole numbers is often half of one.
    return tf.saturate_cast(square_HWC + 0.5, tf.uint8)
