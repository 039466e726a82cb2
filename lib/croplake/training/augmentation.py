"""Random changes of training pictures, in the TensorFlow graph: one affine map a picture."""

from __future__ import annotations

import math

import tensorflow as tf

from croplake.conf import AugmentConf


def augment_batch(images_NHWC: tf.Tensor, conf: AugmentConf, seed: tf.Tensor) -> tf.Tensor:
    """Turns, moves, shears, scales and mirrors every picture by amounts of its own.

    Args:
        images_NHWC: uint8 or float, shape (N, side, side, 3).
        conf: how much of each; all at 0 gives the pictures back untouched.
        seed: integers, shape (2,); the same seed gives the same changes.

    Returns:
        The type and shape of `images_NHWC`; what comes into view from outside is the picture's
        reflection.
    """
    changes = (conf.rotation_deg, conf.shift_frac, conf.shear_frac, conf.zoom_frac)
    if not any(changes) and not conf.horizontal_flip:
        return images_NHWC
    side = tf.shape(images_NHWC)[1]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images_NHWC,
        transforms=draw_transforms(conf, tf.shape(images_NHWC)[0], side, seed),
        output_shape=tf.stack([side, side]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def draw_transforms(
    conf: AugmentConf, num: tf.Tensor | int, side_px: tf.Tensor | int, seed: tf.Tensor
) -> tf.Tensor:
    """Draws one affine map a picture, from a place in the result to the place in the source.

    Args:
        conf: the greatest changes.
        num: how many maps, N.
        side_px: side of the square pictures.
        seed: integers, shape (2,).

    Returns:
        float32, shape (N, 8): (a0, a1, a2, b0, b1, b2, 0, 0) for x' = a0 x + a1 y + a2 and
        y' = b0 x + b1 y + b2, as tf.raw_ops.ImageProjectiveTransformV3 takes them.
    """
    draws = tf.unstack(tf.random.stateless_uniform((num, 6), seed, -1.0, 1.0), axis=1)
    side = tf.cast(side_px, tf.float32)
    angle = draws[0] * math.radians(conf.rotation_deg)
    shear = draws[1] * conf.shear_frac
    scale = 1.0 / (1.0 + draws[2] * conf.zoom_frac)
    shift_x, shift_y = draws[3] * conf.shift_frac * side, draws[4] * conf.shift_frac * side
    mirror = tf.where(conf.horizontal_flip & (draws[5] < 0), -1.0, 1.0)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Source = mirror · scale · shear · rotation, each about the picture's centre.
    a0, a1 = mirror * scale * (cos + shear * sin), mirror * scale * (shear * cos - sin)
    b0, b1 = scale * sin, scale * cos
    centre = (side - 1.0) / 2.0
    from_x, from_y = centre + shift_x, centre + shift_y
    a2 = centre - a0 * from_x - a1 * from_y
    b2 = centre - b0 * from_x - b1 * from_y
    zero = tf.zeros_like(a0)
    return tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)
