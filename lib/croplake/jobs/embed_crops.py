"""The vectors of crops: only those are made that are not there yet."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage, summary
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.inference.embed_spark import embed_crops
from croplake.inference.embedding import EmbedRun
from croplake.jobs.context import JobContext
from croplake.jobs.fetch_plan import recipe_of
from croplake.report.measures import FILE_KEY, file_key, key_of_file

_MAX_NAMED: Final = 5
_MADE: Final = "vectors made"
_AT_HAND: Final = "vectors at hand"
_FAILED: Final = "crops without a vector"


@dataclass(frozen=True)
class Source:
    """Where pictures of crops are read.

    Attributes:
        crops: `box_id` and `file_key` of the crops, a row each.
        files: that hold them, and maybe others.
        column: of the pictures.
    """

    crops: DataFrame
    files: Sequence[str]
    column: str


@dataclass(frozen=True)
class Piece:
    """A part of a file with pictures of crops.

    Attributes:
        path: of the file.
        column: of the pictures.
        row_groups: of it.
        num_crops: that have no vector yet.
        file_key: of a file that lacks some of its crops only, so that they have to be named; among
            those may be crops of another file with the same key.
    """

    path: str
    column: str
    row_groups: list[int]
    num_crops: int
    file_key: int | None = None


def kept_examples(context: JobContext, version: int) -> DataFrame:
    """The rows of `examples` that are the dataset's and in a split."""
    is_kept = (F.col(t.DATASET) == context.settings.dataset.name) & F.col(t.SPLIT).isin(*t.SPLITS)
    return context.read_table(t.EXAMPLES, version=version).where(is_kept)


def recipe_of_examples(context: JobContext, examples: DataFrame, dataset: str) -> str:
    """The recipe that a dataset's examples were cut by: an example's id tells.

    Args:
        context: of the job.
        examples: of the dataset, with the columns `example_id` and `box_id`.
        dataset: its name.

    Raises:
        InputDataError: the lake has no crops of it.
    """
    known = {recipe_of(context.settings.fetch).recipe_id}
    if context.lake.exists(t.CROPS):
        known |= {key[0] for key in context.lake.reader.count_by(t.CROPS.name, [t.RECIPE_ID])}
    first = examples.select(t.EXAMPLE_ID, t.BOX_ID).first()
    if first is not None:
        for recipe_id in sorted(known):
            text = f"{dataset}|{recipe_id}|{first[t.BOX_ID]}"
            id_of_crop = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
            if id_of_crop == first[t.EXAMPLE_ID]:
                return recipe_id
    raise InputDataError(
        f"dataset {dataset}: its examples were made of crops that the lake does not have any more; "
        "run build_examples again"
    )


def of_examples(context: JobContext, version: int) -> Source:
    """The crops of the dataset's splits, which lie together there."""
    crops = kept_examples(context, version).select(t.BOX_ID, _file_key())
    dataset, reader = context.settings.dataset.name, context.lake.reader
    files = [
        file
        for split in t.SPLITS
        for file in reader.files(
            t.EXAMPLES.name, version=version, partition={t.DATASET: dataset, t.SPLIT: split}
        )
    ]
    return Source(crops, files, t.IMAGE)


def of_other_crops(context: JobContext, version: int, recipe_id: str) -> Source:
    """All other crops of the recipe: other datasets', and those that a rule turned down."""
    is_one = (F.col(t.RECIPE_ID) == recipe_id) & F.col(t.HAS_CROP)
    crops = context.read_table(t.CROPS).where(is_one).select(t.BOX_ID, _file_key())
    examples = kept_examples(context, version).select(t.BOX_ID)
    others = crops.join(examples, on=t.BOX_ID, how="left_anti")
    files = context.lake.reader.files(
        t.CROPS.name,
        version=context.read[t.CROPS.name],
        partition={t.RECIPE_ID: recipe_id, t.HAS_CROP: "true"},
    )
    return Source(others, files, t.JPEG)


def _file_key() -> Column:
    return key_of_file(F.col("_metadata.file_name")).alias(FILE_KEY)


def embed_missing(context: JobContext, run: EmbedRun, source: Source) -> None:
    """Makes the vectors that are missing, a commit every so many crops.

    Raises:
        InputDataError: not one of the missing could be made.
    """
    missing = _missing(context, run, source).persist()
    try:
        num_missing = missing.count()
        at_hand = source.crops.count() - num_missing
        before, made = _made_by(context, run), 0
        for pieces in _in_commits(pieces_of(source, missing), context):
            named = name_crops(pieces, missing)
            context.lake.append(embed_crops(context.spark, named, run), t.EMBEDDINGS)
            context.written[t.EMBEDDINGS.name] = context.lake.version(t.EMBEDDINGS)
            context.note()
            made = _made_by(context, run) - before
            context.console.print(f"vectors: {made:,} of {num_missing:,} made", highlight=False)
    finally:
        missing.unpersist()
    for name, num in ((_AT_HAND, at_hand), (_MADE, made), (_FAILED, num_missing - made)):
        context.counts[name] = context.counts.get(name, 0) + num
    if num_missing > made:
        told = _tell_failed(context, run, source, num_missing - made)
        if not context.counts[_MADE] and not context.counts[_AT_HAND]:
            raise InputDataError(f"{told}; choose another probe.network")
        summary.warn(context.console, told)


def _missing(context: JobContext, run: EmbedRun, source: Source) -> DataFrame:
    """`box_id` and `file_key` of the crops that have no vector yet; bytes are not looked at."""
    if not context.lake.exists(t.EMBEDDINGS):
        return source.crops
    is_there = (F.col(t.NETWORK_DIGEST) == run.digest) & (F.col(t.RECIPE_ID) == run.recipe_id)
    there = context.lake.read(t.EMBEDDINGS).where(is_there).select(t.BOX_ID)
    return source.crops.join(there, on=t.BOX_ID, how="anti")


def pieces_of(source: Source, missing: DataFrame) -> Iterator[Piece]:
    """Parts of the files: one that lacks all of its crops is taken row group by row group.

    Args:
        source: of the pictures.
        missing: `box_id` and `file_key` of the crops without a vector.
    """
    counts = {row[FILE_KEY]: row["count"] for row in missing.groupBy(FILE_KEY).count().collect()}
    keys = [file_key(PurePosixPath(file).name) for file in source.files]
    num_files = Counter(keys)
    for file, key in zip(source.files, keys, strict=True):
        if key not in counts:
            continue
        with storage.open_random(file) as content:
            footer = pq.ParquetFile(content).metadata
        groups = range(footer.num_row_groups)
        if num_files[key] == 1 and counts[key] == footer.num_rows:
            for group in groups:
                num_rows = footer.row_group(group).num_rows
                yield Piece(file, source.column, [group], num_rows)
        else:
            yield Piece(file, source.column, list(groups), counts[key], key)


def _in_commits(pieces: Iterable[Piece], context: JobContext) -> Iterator[list[Piece]]:
    held: list[Piece] = []
    num_crops = 0
    for piece in pieces:
        held.append(piece)
        num_crops += piece.num_crops
        if num_crops >= context.settings.probe.crops_per_commit:
            yield held
            held, num_crops = [], 0
    if held:
        yield held


def name_crops(pieces: Sequence[Piece], missing: DataFrame) -> list[dict[str, Any]]:
    """Pieces as `embed_crops` takes them; all that have to be named cost one Spark job together.

    Args:
        pieces: of one commit.
        missing: `box_id` and `file_key` of the crops without a vector.

    Returns:
        Rows of `PIECES_SCHEMA`.
    """
    box_ids: dict[int, list[str]] = {
        piece.file_key: [] for piece in pieces if piece.file_key is not None
    }
    if box_ids:
        named = missing.where(F.col(FILE_KEY).isin(list(box_ids)))
        for row in named.select(FILE_KEY, t.BOX_ID).collect():
            box_ids[row[FILE_KEY]].append(row[t.BOX_ID])
    return [
        {
            t.PATH: piece.path,
            "column": piece.column,
            "row_groups": piece.row_groups,
            "box_ids": None if piece.file_key is None else box_ids[piece.file_key],
        }
        for piece in pieces
    ]


def _made_by(context: JobContext, run: EmbedRun) -> int:
    if not context.lake.exists(t.EMBEDDINGS):
        return 0
    is_theirs = (pads.field(t.NETWORK_DIGEST) == run.digest) & (pads.field(t.RUN_ID) == run.run_id)
    return int(context.lake.reader.dataset(t.EMBEDDINGS.name).count_rows(filter=is_theirs))


def _tell_failed(context: JobContext, run: EmbedRun, source: Source, num_failed: int) -> str:
    rows = _missing(context, run, source).select(t.BOX_ID).limit(_MAX_NAMED).collect()
    named = ", ".join(sorted(row[t.BOX_ID] for row in rows))
    return (
        f"{num_failed:,} crops have no vector: they do not decode, or what {run.network.name} says "
        f"of them is no finite number (box {named}{', …' if num_failed > len(rows) else ''})"
    )
