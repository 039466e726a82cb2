"""A JPEG's orientation in the TensorFlow graph, which decodes the pixels as they are stored.

It stands in the file's EXIF or, where a program has left that out, in its XMP: the same that Pillow
goes by, and with it all that croplake reads.

Source: CIPA DC-008 (Exif 2.32), 4.5.4 and 4.6.2; TIFF 6.0, section 2; XMP Specification, part 2,
section 1.2.6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import tensorflow as tf

_SEARCHED_BYTES: Final = 1 << 18
"""The segment with it comes before the picture; a segment has 64 KiB at most."""
_EXIF: Final = (0xFF, 0xE1, None, None, *b"Exif\0\0")
"""How the segment of EXIF begins; None is its length. The TIFF header follows."""
_XMP: Final = tuple(b"tiff:Orientation")
"""In XMP the number follows as `="6"` of an attribute, or as `>6` of an element."""
_ORIENTATION: Final = 0x0112
_GREATEST: Final = 8
_ENTRY_BYTES: Final = 12


def turn_upright(jpeg: tf.Tensor, pixels_HWC: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors a picture as its file says that it is to be seen.

    Args:
        jpeg: scalar string, the file.
        pixels_HWC: as decoded, shape (height, width, C).

    Returns:
        Shape (height, width, C), or (width, height, C); as it was, where the file does not say.
    """
    turned = [
        lambda: pixels_HWC,
        lambda: tf.image.flip_left_right(pixels_HWC),
        lambda: tf.image.rot90(pixels_HWC, 2),
        lambda: tf.image.flip_up_down(pixels_HWC),
        lambda: tf.image.transpose(pixels_HWC),
        lambda: tf.image.rot90(pixels_HWC, 3),
        lambda: tf.image.rot90(tf.image.transpose(pixels_HWC), 2),
        lambda: tf.image.rot90(pixels_HWC, 1),
    ]
    return tf.switch_case(read_orientation(jpeg) - 1, turned)


def read_orientation(jpeg: tf.Tensor) -> tf.Tensor:
    """The orientation by EXIF, else by XMP.

    Args:
        jpeg: scalar string, a file of any format.

    Returns:
        Scalar int32, 1 to 8; 1 where the file has none, or a broken one.
    """
    size = tf.minimum(tf.strings.length(jpeg), _SEARCHED_BYTES)
    stored = tf.io.decode_raw(tf.strings.substr(jpeg, 0, size), tf.uint8)
    by_exif = _behind(stored, _EXIF, _of_tiff)
    value = tf.cond(by_exif > 0, lambda: by_exif, lambda: _behind(stored, _XMP, _of_xmp))
    return tf.cast(tf.where((value >= 1) & (value <= _GREATEST), value, 1), tf.int32)


def _behind(
    stored: tf.Tensor, mark: Sequence[int | None], read: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """What is read behind the first place of a mark, scalar int64; 0 where there is none."""
    # What is read beyond the end is 0.
    content = tf.pad(stored, [[0, len(mark) + 16]])
    num_places = tf.size(stored)
    begins = tf.ones((num_places,), tf.bool)
    for offset, byte in enumerate(mark):
        if byte is not None:
            begins &= content[offset : offset + num_places] == byte
    found = tf.where(begins)[:, 0]
    return tf.cond(
        tf.size(found) > 0,
        lambda: read(tf.cast(content[tf.cast(found[0], tf.int32) + len(mark) :], tf.int64)),
        lambda: tf.constant(0, tf.int64),
    )


def _of_xmp(content: tf.Tensor) -> tf.Tensor:
    is_element = content[0] == ord(">")
    is_attribute = (content[0] == ord("=")) & (content[1] == ord('"'))
    digit = tf.where(is_element, content[1], tf.where(is_attribute, content[2], ord("0")))
    return digit - ord("0")


def _of_tiff(content: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of a TIFF file; its bytes as int64, at least 16."""
    weights = tf.cond(
        content[0] == ord("I"),
        lambda: tf.constant([1, 1 << 8, 1 << 16, 1 << 24], tf.int64),
        lambda: tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64),
    )
    # Of two bytes the same order: the weights of the little, or of the great end.
    of_two = tf.cond(content[0] == ord("I"), lambda: weights[:2], lambda: weights[2:])
    at = tf.minimum(tf.reduce_sum(content[4:8] * weights), tf.size(content, tf.int64) - 2)
    num_entries = tf.reduce_sum(content[at : at + 2] * of_two)
    entries = content[at + 2 :]
    num_entries = tf.minimum(num_entries, tf.size(entries, tf.int64) // _ENTRY_BYTES)
    table = tf.reshape(entries[: num_entries * _ENTRY_BYTES], (-1, _ENTRY_BYTES))
    tags = tf.reduce_sum(table[:, :2] * of_two, axis=1)
    values = tf.boolean_mask(tf.reduce_sum(table[:, 8:10] * of_two, axis=1), tags == _ORIENTATION)
    return tf.reduce_max(tf.concat([[0], values[:1]], axis=0))
