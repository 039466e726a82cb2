"""Examples and crops as the rows of an export, and the shards they fall into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.export.rows import DETAILS, KEY, SHARD

NUM: Final = "num"
DIGEST: Final = "digest"
NO_SHARD: Final = -1
_ORDER: Final = "order"


def rows_of_examples(examples: DataFrame) -> DataFrame:
    """What is exported of examples.

    Args:
        examples: rows of `examples` of one dataset.

    Returns:
        `rows.DETAILS` and `image`; without the rejected ones.
    """
    kept = examples.where(F.col(t.SPLIT).isin(*t.SPLITS))
    return kept.withColumn(KEY, F.col(t.EXAMPLE_ID)).select(*DETAILS, t.IMAGE)


def rows_of_crops(crops: DataFrame, selected: DataFrame, categories: Sequence[str]) -> DataFrame:
    """What is exported of crops: those of the kept boxes, in the subsets of Open Images.

    Args:
        crops: rows of `crops` of one recipe.
        selected: rows of `selected_boxes` of one dataset.
        categories: by label index.

    Returns:
        `rows.DETAILS` and `image`; a category that is not among `categories` has no label index.
    """
    kept = selected.where(F.col(t.REJECT_REASON).isNull()).select(
        t.BOX_ID, t.SUBSET, t.CATEGORY, *t.FLAGS
    )
    joined = crops.where(F.col(t.HAS_CROP)).join(kept, on=t.BOX_ID, how="inner")
    indexes = {category: index for index, category in enumerate(categories)}
    columns = {
        KEY: F.col(t.BOX_ID),
        t.SPLIT: F.col(t.SUBSET),
        t.LABEL_INDEX: _literal_map(indexes)[F.col(t.CATEGORY)],
        t.IMAGE: F.col(t.JPEG),
    }
    return joined.withColumns(columns).select(*DETAILS, t.IMAGE)


def count_rows(rows: DataFrame) -> DataFrame:
    """Rows by `split`, `category` and `label_index`: these, and `num`."""
    return rows.groupBy(t.SPLIT, t.CATEGORY, t.LABEL_INDEX).agg(F.count("*").alias(NUM))


def count_shards(rows: DataFrame, buckets: Mapping[str, int]) -> DataFrame:
    """What falls into each shard, without a look at the pictures' bytes.

    Args:
        rows: from `rows_of_examples` or `rows_of_crops`.
        buckets: number of each split.

    Returns:
        `shard`, `split`, `num`, and `digest`: equal for equal rows, in whatever order or file.
    """
    # As JSON: a hash of the columns themselves would not tell (null, "a") from ("a", null).
    hashed = F.xxhash64(F.to_json(F.struct(*DETAILS))).cast("decimal(38,0)")
    return (
        rows.withColumn(SHARD, _shard(buckets))
        .groupBy(SHARD, t.SPLIT)
        .agg(F.count("*").alias(NUM), F.sum(hashed).cast("string").alias(DIGEST))
    )


def spread_to_shards(
    rows: DataFrame, buckets: Mapping[str, int], wanted: Sequence[int]
) -> DataFrame:
    """The rows of some shards, those of each one after the other.

    Shard and order depend on the keys alone, so the same rows give the same shards, whatever
    version or file they come from.

    Args:
        rows: from `rows_of_examples` or `rows_of_crops`.
        buckets: number of each split.
        wanted: ids of shards.

    Returns:
        The columns of `ROWS_SCHEMA`.
    """
    numbers = [name for name, kind in rows.dtypes if kind == "tinyint"]
    return (
        rows.withColumns({name: F.col(name).cast("int") for name in numbers})
        .withColumns({SHARD: _shard(buckets), _ORDER: F.xxhash64(KEY)})
        .where(F.col(SHARD).isin(*wanted))
        .repartition(len(wanted), SHARD)
        .sortWithinPartitions(SHARD, _ORDER)
        .select(SHARD, *DETAILS, t.IMAGE)
    )


def _shard(buckets: Mapping[str, int]) -> Column:
    """The id of a row's shard: its bucket, counted on from split to split.

    `NO_SHARD` where its split has none: it had no row when the buckets were made.
    """
    sizes = [0, *buckets.values()]
    firsts = {split: sum(sizes[: place + 1]) for place, split in enumerate(buckets)}
    bucket = F.pmod(F.xxhash64(KEY), _literal_map(buckets)[F.col(t.SPLIT)])
    shard = bucket + _literal_map(firsts)[F.col(t.SPLIT)]
    return F.coalesce(shard.cast("int"), F.lit(NO_SHARD))


def _literal_map(values: Mapping[str, int]) -> Column:
    return F.create_map(*map(F.lit, chain.from_iterable(values.items())))
