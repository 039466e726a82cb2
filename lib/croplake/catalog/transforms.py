"""CSV lines to catalog rows: each typed, or given the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # the name the Spark documentation uses

from croplake import tables as t
from croplake.catalog.formats import FLAGS
from croplake.catalog.sources import CsvFile

LINE_TEXT: Final = "value"
"""The raw line, as Spark's text reader names it."""
_CORRUPT: Final = "_corrupt"
_FIELDS: Final = "fields"

_CORNER_COLUMNS: Final = ("XMin", "XMax", "YMin", "YMax")


def parse_lines(lines: DataFrame, file: CsvFile) -> DataFrame:
    """Splits lines into the file's columns.

    Args:
        lines: one column, the raw lines, header included.
        file: whose they are.

    Returns:
        `value` (the raw line), `reason` (`wrong_number_of_columns` or null), and the file's columns
        as strings, empty ones null.
    """
    schema = ", ".join(f"`{name}` string" for name in (*file.header, _CORRUPT))
    options = {"quote": '"', "escape": '"', "columnNameOfCorruptRecord": _CORRUPT}
    rows = lines.where((F.col(LINE_TEXT) != file.header_line) & (F.length(LINE_TEXT) > 0))
    parsed = rows.withColumn(_FIELDS, F.from_csv(LINE_TEXT, schema, options))
    malformed = F.col(f"{_FIELDS}.{_CORRUPT}").isNotNull()
    return parsed.select(
        LINE_TEXT,
        F.when(malformed, F.lit("wrong_number_of_columns")).alias(t.REASON),
        *(F.col(f"{_FIELDS}.{name}") for name in file.header),
    )


def type_photos(parsed: DataFrame, subset: str) -> DataFrame:
    """Types a photos CSV.

    Args:
        parsed: from `parse_lines`.
        subset: the one the file belongs to.

    Returns:
        `value`, `reason` (null where the row is good) and the columns of `photos`.
    """
    rotation = F.col("Rotation").try_cast("double")
    checks = [
        ("bad_image_id", _bad_image_id()),
        ("wrong_subset", ~F.col("Subset").eqNullSafe(F.lit(subset))),
        ("bad_original_size", _present_but_not("OriginalSize", "long")),
        (
            "bad_rotation",
            F.col("Rotation").isNotNull()
            & ~F.coalesce(rotation.isin(0.0, 90.0, 180.0, 270.0), F.lit(False)),
        ),
    ]
    return parsed.select(
        LINE_TEXT,
        _first_reason(checks),
        F.col("ImageID").alias(t.IMAGE_ID),
        F.col("Subset").alias(t.SUBSET),
        F.col("OriginalURL").alias(t.ORIGINAL_URL),
        F.col("Thumbnail300KURL").alias(t.THUMBNAIL_URL),
        F.col("OriginalSize").try_cast("long").alias(t.ORIGINAL_SIZE_BYTES),
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
    corners = {name: F.col(name).try_cast("double") for name in _CORNER_COLUMNS}
    outside = [~F.coalesce(corner.between(0, 1), F.lit(False)) for corner in corners.values()]
    flags = {name: F.col(name).try_cast("tinyint") for name in FLAGS}
    bad_flags = [~F.coalesce(flag.isin(-1, 0, 1), F.lit(False)) for flag in flags.values()]
    checks = [
        ("bad_image_id", _bad_image_id()),
        ("unknown_class", ~F.coalesce(F.col("LabelName").isin(*known_mids), F.lit(False))),
        ("bad_corner", _any(outside)),
        (
            "corners_reversed",
            (corners["XMin"] > corners["XMax"]) | (corners["YMin"] > corners["YMax"]),
        ),
        ("bad_confidence", F.col("Confidence").try_cast("double").isNull()),
        ("bad_flag", _any(bad_flags)),
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
        F.col("Confidence").try_cast("double").alias(t.CONFIDENCE),
        *(flags[name].alias(column) for name, column in zip(FLAGS, t.FLAGS, strict=True)),
    )


def merge_equal(rows: DataFrame, keys: Sequence[str], columns: Sequence[str]) -> DataFrame:
    """Leaves one row of those that share a key: the greatest, compared column by column.

    For boxes that is the most confident, then the last source by name, then the set flags.

    Args:
        rows: with `columns`.
        keys: what makes rows equal.
        columns: of the result, in its order.
    """
    ranked = [t.CONFIDENCE] if t.CONFIDENCE in columns else []
    ranked += [column for column in columns if column not in keys and column not in ranked]
    greatest = rows.groupBy(*keys).agg(F.max(F.struct(*ranked)).alias("greatest"))
    return greatest.select(
        *(column if column in keys else F.col(f"greatest.{column}") for column in columns)
    )


def _bad_image_id() -> Column:
    return ~F.coalesce(F.col("ImageID").rlike("^[0-9a-f]{16}$"), F.lit(False))


def _present_but_not(column: str, kind: str) -> Column:
    return F.col(column).isNotNull() & F.col(column).try_cast(kind).isNull()


def _any(conditions: Sequence[Column]) -> Column:
    result = F.lit(False)
    for condition in conditions:
        result = result | condition
    return result


def _first_reason(checks: Sequence[tuple[str, Column]]) -> Column:
    reasons = [F.when(condition, F.lit(reason)) for reason, condition in checks]
    return F.coalesce(t.REASON, *reasons).alias(t.REASON)


def _box_id(corners: dict[str, Column]) -> Column:
    """MD5 in hex of `image_id|label_mid|x_min|x_max|y_min|y_max`, corners in millionths."""
    millionths = [F.round(corner * 1_000_000).cast("int") for corner in corners.values()]
    parts = [F.col("ImageID"), F.col("LabelName"), *(part.cast("string") for part in millionths)]
    return F.md5(F.concat_ws("|", *parts))
