"""TFRecord: a file of `tf.train.Example` for each shard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from croplake import tables as t
from croplake.export.placing import whole_file
from croplake.export.plan import Manifest, Shard
from croplake.export.rows import KEY, Row

_FORMAT: Final = "image/format"
_COLUMNS: Final = {
    "image/encoded": t.IMAGE,
    "image/height": t.HEIGHT_PX,
    "image/width": t.WIDTH_PX,
    "image/source_id": KEY,
    "image/class/label": t.LABEL_INDEX,
    "image/class/text": t.CATEGORY,
    "image/box_id": t.BOX_ID,
    "image/image_id": t.IMAGE_ID,
    "image/subset": t.SUBSET,
    **{f"image/{name}": name for name in (*t.ATTRIBUTION, *t.FLAGS)},
}
_NUMBERS: Final = frozenset((t.HEIGHT_PX, t.WIDTH_PX, t.LABEL_INDEX, *t.FLAGS))
FEATURES: Final[dict[str, str]] = {
    _FORMAT: "string",
    **{name: "int64" if column in _NUMBERS else "string" for name, column in _COLUMNS.items()},
}
"""Feature to the name of its `tf.dtypes`; each is a `tf.io.FixedLenFeature([], …)`. A text that the
catalog does not have is empty."""


def write_shard(into: str, manifest: Manifest, shard: Shard, rows: Iterable[Row]) -> str:
    """Writes `<split>-<number>-of-<shards>.tfrecord`.

    Args:
        into: address of the export.
        manifest: of the export.
        shard: which.
        rows: of the shard.

    Returns:
        The path of its file.

    Raises:
        OSError: the file cannot be written.
    """
    from croplake.inference.network import prepare_tensorflow  # now: it loads TensorFlow

    prepare_tensorflow()
    import tensorflow as tf

    last = f"{shard.split}-{shard.number:05d}-of-{shard.num_of_split:05d}.tfrecord"
    with whole_file(into, last) as part:
        try:
            with tf.io.TFRecordWriter(str(part)) as writer:
                for row in rows:
                    writer.write(_example(tf.train, row).SerializeToString(deterministic=True))
        except tf.errors.OpError as error:
            raise OSError(f"{last}: {error}") from error
    return last


def _example(train: Any, row: Row) -> Any:  # noqa: ANN401  # TensorFlow has no types
    features = {_FORMAT: train.Feature(bytes_list=train.BytesList(value=[b"jpeg"]))}
    for name, column in _COLUMNS.items():
        if column in _NUMBERS:
            features[name] = train.Feature(int64_list=train.Int64List(value=[row[column]]))
        else:
            value = row[column] or b""
            content = value.encode() if isinstance(value, str) else value
            features[name] = train.Feature(bytes_list=train.BytesList(value=[content]))
    return train.Example(features=train.Features(feature=features))
