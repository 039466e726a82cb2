"""CSV lines to catalog rows: each typed, or given the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812  # the name the Spark documentation uses

from croplake import tables as t
from croplake.catalog.formats import FLAGS
from croplake.catalog.sources import CsvFile

LINE_TEXT: Final = "value"
"""The raw line, as Spark's text reader names it."""
_CORRUPT: Final = "_corrupt"
_FIELDS: Final = "fields"
_BEFORE: Final = "before"

_CORNER_COLUMNS: Final = ("XMin", "XMax", "YMin", "YMax")


class FieldKind(NamedTuple):
    """Columns of one type.

    Attributes:
        type: Spark's.
        reason: why a row is rejected whose field is not of it.
        columns: their names.
    """

    type: str
    reason: str
    columns: tuple[str, ...]


WRONG_NUMBER_OF_COLUMNS: Final = "wrong_number_of_columns"
_BAD_CORNER: Final = "bad_corner"
_BAD_CONFIDENCE: Final = "bad_confidence"
_BAD_FLAG: Final = "bad_flag"
_BAD_SIZE: Final = "bad_original_size"
_BAD_ROTATION: Final = "bad_rotation"
BOX_KINDS: Final = (
    FieldKind("double", _BAD_CORNER, _CORNER_COLUMNS),
    FieldKind("double", _BAD_CONFIDENCE, ("Confidence",)),
    FieldKind("tinyint", _BAD_FLAG, FLAGS),
)
PHOTO_KINDS: Final = (
    FieldKind("bigint", _BAD_SIZE, ("OriginalSize",)),
    FieldKind("double", _BAD_ROTATION, ("Rotation",)),
)


def data_lines(lines: DataFrame, file: CsvFile) -> DataFrame:
    """The lines that are rows.

    Args:
        lines: one column, the raw lines.
        file: whose they are; its header and empty lines are left out.
    """
    return lines.where((F.col(LINE_TEXT) != file.header_line) & (F.length(LINE_TEXT) > 0))


def parse_lines(rows: DataFrame, file: CsvFile, kinds: Sequence[FieldKind]) -> DataFrame:
    """Splits lines into the file's columns, each of its type.

    Args:
        rows: from `data_lines`.
        file: whose they are.
        kinds: the columns that are no strings.

    Returns:
        `value` (the raw line), `reason` (null, `wrong_number_of_columns` or that of a kind whose
        field is not of its type), and the file's columns, empty ones null.
    """
    types = {name: kind.type for kind in kinds for name in kind.columns}
    parsed = rows.withColumn(_FIELDS, _from_csv(file, types))
    # Lines that are not as they should be are few: only they are split once more, to tell why.
    texts = _from_csv(file, {})
    is_text_there = {name: texts[name].isNotNull() for name in types}
    of_kinds = [
        F.when(
            _any([_field(name).isNull() & is_text_there[name] for name in kind.columns]),
            kind.reason,
        )
        for kind in kinds
    ]
    is_short = F.when(texts[_CORRUPT].isNotNull(), WRONG_NUMBER_OF_COLUMNS)
    why = F.coalesce(is_short, *of_kinds, F.lit(WRONG_NUMBER_OF_COLUMNS))
    return parsed.select(
        LINE_TEXT,
        F.when(_field(_CORRUPT).isNotNull(), why).alias(t.REASON),
        *(_field(name).alias(name) for name in file.header),
    )


def _from_csv(file: CsvFile, types: Mapping[str, str]) -> Column:
    named = {name: types.get(name, "string") for name in file.header} | {_CORRUPT: "string"}
    schema = ", ".join(f"`{name}` {kind}" for name, kind in named.items())
    options = {"quote": '"', "escape": '"', "columnNameOfCorruptRecord": _CORRUPT}
    return F.from_csv(LINE_TEXT, schema, options)


def _field(name: str) -> Column:
    return F.col(f"{_FIELDS}.{name}")


def good_rows(typed: DataFrame) -> DataFrame:
    """The rows without a reason, as their table has them.

    Args:
        typed: from `type_boxes` or `type_photos`.
    """
    return typed.where(F.col(t.REASON).isNull()).drop(LINE_TEXT, t.REASON)


def type_photos(parsed: DataFrame, subset: str) -> DataFrame:
    """Types a photos CSV.

    Args:
        parsed: from `parse_lines`.
        subset: the one the file belongs to.

    Returns:
        `value`, `reason` (null where the row is good) and the columns of `photos`.
    """
    rotation = F.col("Rotation")
    checks = [
        ("bad_image_id", _bad_image_id()),
        ("wrong_subset", ~F.col("Subset").eqNullSafe(F.lit(subset))),
        (_BAD_ROTATION, ~rotation.isin(0.0, 90.0, 180.0, 270.0)),
    ]
    return parsed.select(
        LINE_TEXT,
        _first_reason(checks),
        F.col("ImageID").alias(t.IMAGE_ID),
        F.col("Subset").alias(t.SUBSET),
        F.col("OriginalURL").alias(t.ORIGINAL_URL),
        F.col("Thumbnail300KURL").alias(t.THUMBNAIL_URL),
        F.col("OriginalSize").alias(t.ORIGINAL_SIZE_BYTES),
        F.col("OriginalMD5").alias(t.ORIGINAL_MD5_BASE64),
        rotation.cast("int").alias(t.ROTATION_DEG),
        F.col("License").alias(t.LICENSE),
        F.col("Author").alias(t.AUTHOR),
        F.col("AuthorProfileURL").alias(t.AUTHOR_URL),
        F.col("Title").alias(t.TITLE),
        F.col("OriginalLandingURL").alias(t.LANDING_URL),
    )


def type_boxes(parsed: DataFrame, subset: str, known_mids: Sequence[str]) -> DataFrame:
    """Types a boxes CSV.

    Args:
        parsed: from `parse_lines`.
        subset: the one the file belongs to.
        known_mids: of the class list.

    Returns:
        `value`, `reason` (null where the row is good) and the columns of `boxes`.
    """
    corners = {name: F.col(name) for name in _CORNER_COLUMNS}
    outside = [~F.coalesce(corner.between(0, 1), F.lit(False)) for corner in corners.values()]
    bad_flags = [~F.coalesce(F.col(name).between(-1, 1), F.lit(False)) for name in FLAGS]
    checks = [
        ("bad_image_id", _bad_image_id()),
        ("unknown_class", ~F.coalesce(F.col("LabelName").isin(*known_mids), F.lit(False))),
        (_BAD_CORNER, _any(outside)),
        (
            "corners_reversed",
            (corners["XMin"] > corners["XMax"]) | (corners["YMin"] > corners["YMax"]),
        ),
        (_BAD_CONFIDENCE, F.col("Confidence").isNull()),
        (_BAD_FLAG, _any(bad_flags)),
    ]
    return parsed.select(
        LINE_TEXT,
        _first_reason(checks),
        _box_id(corners).alias(t.BOX_ID),
        F.col("ImageID").alias(t.IMAGE_ID),
        F.lit(subset).alias(t.SUBSET),
        F.col("LabelName").alias(t.LABEL_MID),
        corners["XMin"].alias(t.X_MIN),
        corners["XMax"].alias(t.X_MAX),
        corners["YMin"].alias(t.Y_MIN),
        corners["YMax"].alias(t.Y_MAX),
        F.col("Source").alias(t.SOURCE),
        F.col("Confidence").alias(t.CONFIDENCE),
        *(F.col(name).alias(column) for name, column in zip(FLAGS, t.FLAGS, strict=True)),
    )


def merge_boxes(boxes: DataFrame) -> DataFrame:
    """Lays boxes out by class and photo; of equal ones the greatest is left.

    That is the most confident, then that of the last source by name, then that of the set flags.

    Args:
        boxes: the columns of `boxes`, of one subset.
    """
    ranked = [F.desc(column) for column in (t.CONFIDENCE, t.SOURCE, *t.FLAGS)]
    return _first_of_equal(boxes, t.LABEL_MID, [t.IMAGE_ID, t.BOX_ID], ranked)


def merge_photos(photos: DataFrame) -> DataFrame:
    """Lays photos out by id; of equal ones the greatest is left, compared column by column.

    Args:
        photos: the columns of `photos`, of one subset.
    """
    ranked = [F.desc(column) for column in t.PHOTOS.columns if column != t.IMAGE_ID]
    return _first_of_equal(photos, t.IMAGE_ID, [], ranked)


def _first_of_equal(
    rows: DataFrame, cluster: str, keys: Sequence[str], ranked: Sequence[Column]
) -> DataFrame:
    """Brings the rows of a cluster together, sorts them once, and leaves the first of equal ones.

    A group-by would hash or sort the rows once more, and lose their order.
    """
    keys = [cluster, *keys]
    # Windows of a few rows: one a key would start for every row, one a cluster holds too many.
    near = keys[:-1] or keys
    window = Window.partitionBy(*near).orderBy(*keys[len(near) :], *ranked)
    laid_out = rows.repartition(cluster).sortWithinPartitions(*keys, *ranked)
    marked = laid_out.withColumn(_BEFORE, F.lag(keys[-1]).over(window))
    return marked.where(~F.col(_BEFORE).eqNullSafe(F.col(keys[-1]))).drop(_BEFORE)


def _bad_image_id() -> Column:
    return ~F.coalesce(F.col("ImageID").rlike("^[0-9a-f]{16}$"), F.lit(False))


def _any(conditions: Sequence[Column]) -> Column:
    result = F.lit(False)
    for condition in conditions:
        result = result | condition
    return result


def _first_reason(checks: Sequence[tuple[str, Column]]) -> Column:
    reasons = [F.when(condition, F.lit(reason)) for reason, condition in checks]
    # A filter by the reason would be moved below the columns, and each line parsed once more for
    # every one of them; what depends on the partition stays where it is.
    return F.when(F.spark_partition_id() >= 0, F.coalesce(t.REASON, *reasons)).alias(t.REASON)


def _box_id(corners: dict[str, Column]) -> Column:
    """MD5 in hex of `image_id|label_mid|x_min|x_max|y_min|y_max`, corners in millionths."""
    # Spark rounds by way of decimals, which takes longer than reading the row.
    millionths = [F.floor(corner * 1e6 + 0.5).cast("int") for corner in corners.values()]
    parts = [F.col("ImageID"), F.col("LabelName"), *(part.cast("string") for part in millionths)]
    return F.md5(F.concat_ws("|", *parts))
