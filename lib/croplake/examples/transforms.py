"""Crops to training examples."""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.conf import DatasetSpec

TOO_SMALL_PX: Final = "too_small_px"
TOO_NARROW: Final = "too_narrow"
TOO_WIDE: Final = "too_wide"
BALANCED_OUT: Final = "balanced_out"
ORDER_KEY: Final = "order_key"


def split_of(spec: DatasetSpec) -> Column:
    """The split of a photo, by one rule for the whole dataset.

    `hash` is reproducible anywhere: the first 8 hex digits of the image id's MD5 as a fraction of
    2^32, cut at the shares.
    """
    if spec.split == "open_images":
        return F.col(t.SUBSET)
    digits = F.substring(F.md5(F.col(t.IMAGE_ID)), 1, 8)
    fraction = F.conv(digits, 16, 10).cast("double") / float(1 << 32)
    shares = spec.hash_shares
    return (
        F.when(fraction < shares.train, "train")
        .when(fraction < shares.train + shares.validation, "validation")
        .otherwise("test")
    )


def make_examples(
    crops: DataFrame, selected: DataFrame, categories: list[str], spec: DatasetSpec
) -> DataFrame:
    """Joins a dataset's boxes with their crops and applies its rules.

    Args:
        crops: rows of `crops` of one recipe.
        selected: rows of `selected_boxes` of the dataset.
        categories: by label index.
        spec: the dataset's rules.

    Returns:
        The columns of `examples`; a crop that a rule turns down is there without bytes, in the
        split `rejected`, with its reason.
    """
    kept = selected.where(F.col(t.REJECT_REASON).isNull()).select(
        t.BOX_ID, t.SUBSET, t.CATEGORY, *t.FLAGS
    )
    joined = crops.where(F.col(t.HAS_CROP)).join(kept, on=t.BOX_ID, how="inner")
    side_px = F.least(t.SOURCE_BOX_WIDTH_PX, t.SOURCE_BOX_HEIGHT_PX)
    aspect_ratio = F.col(t.WIDTH_PX) / F.col(t.HEIGHT_PX)
    reasons = [F.when(side_px < spec.min_crop_side_px, F.lit(TOO_SMALL_PX))]
    if spec.min_aspect_ratio is not None:
        reasons.append(F.when(aspect_ratio < spec.min_aspect_ratio, F.lit(TOO_NARROW)))
    if spec.max_aspect_ratio is not None:
        reasons.append(F.when(aspect_ratio > spec.max_aspect_ratio, F.lit(TOO_WIDE)))
    reason = F.coalesce(*reasons)
    is_kept = reason.isNull()
    area = (F.col(t.X_MAX) - F.col(t.X_MIN)) * (F.col(t.Y_MAX) - F.col(t.Y_MIN))
    indexes = [F.lit(part) for pair in enumerate(categories) for part in (pair[1], pair[0])]
    columns = {
        t.DATASET: F.lit(spec.name),
        t.SPLIT: F.when(is_kept, split_of(spec)).otherwise(t.REJECTED_SPLIT),
        t.EXAMPLE_ID: F.md5(F.concat_ws("|", F.lit(spec.name), t.RECIPE_ID, t.BOX_ID)),
        t.LABEL_INDEX: F.create_map(*indexes)[F.col(t.CATEGORY)],
        t.IMAGE: F.when(is_kept, F.col(t.JPEG)),
        t.BOX_AREA_FRAC: area,
        t.REJECT_REASON: reason,
    }
    return joined.select(
        *(
            columns[name].alias(name) if name in columns else F.col(name)
            for name in t.EXAMPLES.columns
        )
    )


def balance_cuts(examples: DataFrame, spec: DatasetSpec) -> DataFrame:
    """The first training example of each category that is too many, in a fixed random order.

    Args:
        examples: from `make_examples`; their bytes are not looked at.
        spec: the dataset's rules.

    Returns:
        `category` and `example_id`; no row for a category that has not too many.
    """
    training = examples.where(F.col(t.SPLIT) == "train").select(t.CATEGORY, t.EXAMPLE_ID)
    place = F.row_number().over(Window.partitionBy(t.CATEGORY).orderBy(t.EXAMPLE_ID))
    placed = training.withColumn("place", place)
    if spec.balance.rule == "downsample":
        counts = training.groupBy(t.CATEGORY).count()
        most = counts.agg(F.min("count").alias("most"))
        placed = placed.crossJoin(F.broadcast(most))
    else:
        placed = placed.withColumn("most", F.lit(spec.balance.max_examples))
    return placed.where(F.col("place") == F.col("most") + 1).select(t.CATEGORY, t.EXAMPLE_ID)


def balance(examples: DataFrame, cuts: dict[str, str]) -> DataFrame:
    """Turns down the training examples from each category's cut on.

    Args:
        examples: from `make_examples`.
        cuts: category to the first `example_id` that is too many.
    """
    if not cuts:
        return examples
    pairs = [F.lit(text) for pair in cuts.items() for text in pair]
    cut = F.create_map(*pairs)[F.col(t.CATEGORY)]
    is_over = (F.col(t.SPLIT) == "train") & F.coalesce(F.col(t.EXAMPLE_ID) >= cut, F.lit(False))
    return examples.withColumns(
        {
            t.SPLIT: F.when(is_over, t.REJECTED_SPLIT).otherwise(F.col(t.SPLIT)),
            t.IMAGE: F.when(~is_over, F.col(t.IMAGE)),
            t.REJECT_REASON: F.when(is_over, BALANCED_OUT).otherwise(F.col(t.REJECT_REASON)),
        }
    )


def shuffle_examples(examples: DataFrame, num_parts: int, seed: int) -> DataFrame:
    """Spreads examples over partitions and orders each by a hash of its id.

    The order depends on the ids and the seed alone, so the same examples give the same shards.
    """
    keyed = examples.withColumn(ORDER_KEY, F.xxhash64(t.EXAMPLE_ID, F.lit(seed)))
    spread = keyed.repartition(num_parts, ORDER_KEY)
    return spread.sortWithinPartitions(t.SPLIT, ORDER_KEY).drop(ORDER_KEY)
