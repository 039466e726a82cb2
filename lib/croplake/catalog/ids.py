"""Ids of photos and boxes, a column at a time."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import md5
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_ID_DIGITS: Final = 16
_HASH_DIGITS: Final = 32
_BOXES_AT_ONCE: Final = 64 * 1024
"""As Python's texts they take ten times their room."""
_NO_DIGIT: Final = 255
_DIGITS: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_VALUES: Final = np.full(256, _NO_DIGIT, np.uint8)
_VALUES[_DIGITS] = np.arange(16)


def image_numbers(ids: pa.ChunkedArray) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Ids of 16 hex digits as numbers, and which are none."""
    array = ids.combine_chunks()
    is_long = pc.fill_null(pc.equal(pc.binary_length(array), _ID_DIGITS), fill_value=False)
    if not pc.all(is_long, min_count=0).as_py():
        array = pc.if_else(is_long, array, "!" * _ID_DIGITS)
    texts = np.frombuffer(array.buffers()[2], np.uint8, _ID_DIGITS * len(array))
    digits = _VALUES[texts].reshape(-1, _ID_DIGITS)
    is_bad = (digits == _NO_DIGIT).any(axis=1)
    packed = (digits[:, 0::2] << 4) | (digits[:, 1::2] & 15)
    return np.ascontiguousarray(packed).view(">u8").astype(np.uint64).ravel(), is_bad


def image_ids(numbers: NDArray[np.uint64]) -> pa.Array:
    """Ids as texts of 16 hex digits, from numbers."""
    return _of_length(numbers.astype(">u8").tobytes().hex().encode(), _ID_DIGITS)


def box_ids(ids: pa.Array, mid: str, millionths: Sequence[NDArray[np.uint64]]) -> pa.Array:
    """MD5 in hex of `image_id|label_mid|x_min|x_max|y_min|y_max`, corners in millionths.

    Args:
        ids: of the photos.
        mid: the boxes' class.
        millionths: the corners, rounded half up.
    """
    starts = range(0, len(ids), _BOXES_AT_ONCE)
    some = [slice(start, start + _BOXES_AT_ONCE) for start in starts]
    return pa.concat_arrays(
        [pa.array([], pa.string())]
        + [_box_ids(ids[part], mid, [corner[part] for corner in millionths]) for part in some]
    )


def _box_ids(ids: pa.Array, mid: str, millionths: Sequence[NDArray[np.uint64]]) -> pa.Array:
    corners = [pa.array(corner).cast(pa.string()) for corner in millionths]
    texts = pc.binary_join_element_wise(ids, mid, *corners, "|")
    # Split as one text they become Python's in a third of the time.
    lines = pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts), "\n")[0].as_py()
    hashes = [md5(line, usedforsecurity=False).hexdigest() for line in lines.encode().split(b"\n")]
    return _of_length("".join(hashes).encode(), _HASH_DIGITS)


def _of_length(texts: bytes, num_digits: int) -> pa.Array:
    """Texts of one length, from all of them one after another."""
    ends = np.arange(0, len(texts) + 1, num_digits, dtype=np.int32)
    return pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(texts))
