"""The vectors of a dataset's crops: only those are made that are not there yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
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
class Piece:
    """A part of a file of `examples`.

    Attributes:
        path: of the file.
        row_groups: of it.
        num_crops: that have no vector yet.
        file_key: of a file that lacks some of its crops only, so that they have to be named.
    """

    path: str
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


def embed_missing(context: JobContext, run: EmbedRun, version: int) -> None:
    """Makes the vectors that are missing, a commit every so many crops.

    Raises:
        InputDataError: not one of the missing could be made.
    """
    missing = _missing(context, run, version).persist()
    try:
        num_missing = missing.count()
        num_all = kept_examples(context, version).select(t.BOX_ID).count()
        context.counts[_AT_HAND] = num_all - num_missing
        made = 0
        for pieces in _in_commits(_pieces(context, missing, version), context):
            named = name_crops(pieces, missing)
            context.lake.append(embed_crops(context.spark, named, run), t.EMBEDDINGS)
            context.written[t.EMBEDDINGS.name] = context.lake.version(t.EMBEDDINGS)
            context.note()
            made = _made_by(context, run)
            context.console.print(f"vectors: {made:,} of {num_missing:,} made", highlight=False)
        context.counts |= {_MADE: made, _FAILED: num_missing - made}
    finally:
        missing.unpersist()
    if num_missing > made:
        _tell_failed(context, run, version, num_missing - made)


def _missing(context: JobContext, run: EmbedRun, version: int) -> DataFrame:
    """`box_id` and `file_key` of the crops that have no vector yet; bytes are not looked at."""
    key = key_of_file(F.col("_metadata.file_name")).alias(FILE_KEY)
    wanted = kept_examples(context, version).select(t.BOX_ID, key)
    if not context.lake.exists(t.EMBEDDINGS):
        return wanted
    is_there = (F.col(t.NETWORK_DIGEST) == run.digest) & (F.col(t.RECIPE_ID) == run.recipe_id)
    there = context.lake.read(t.EMBEDDINGS).where(is_there).select(t.BOX_ID)
    return wanted.join(there, on=t.BOX_ID, how="anti")


def _pieces(context: JobContext, missing: DataFrame, version: int) -> Iterator[Piece]:
    """Parts of the files: one that lacks all of its crops is taken row group by row group."""
    counts = {row[FILE_KEY]: row["count"] for row in missing.groupBy(FILE_KEY).count().collect()}
    for split in t.SPLITS:
        partition = {t.DATASET: context.settings.dataset.name, t.SPLIT: split}
        for file in context.lake.reader.files(
            t.EXAMPLES.name, version=version, partition=partition
        ):
            key = file_key(PurePosixPath(file).name)
            if key not in counts:
                continue
            with storage.open_random(file) as content:
                footer = pq.ParquetFile(content).metadata
            groups = range(footer.num_row_groups)
            if counts[key] >= footer.num_rows:
                for group in groups:
                    yield Piece(file, [group], footer.row_group(group).num_rows)
            else:
                yield Piece(file, list(groups), counts[key], key)


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
            "row_groups": piece.row_groups,
            "box_ids": None if piece.file_key is None else box_ids[piece.file_key],
        }
        for piece in pieces
    ]


def _made_by(context: JobContext, run: EmbedRun) -> int:
    is_theirs = (pads.field(t.NETWORK_DIGEST) == run.digest) & (pads.field(t.RUN_ID) == run.run_id)
    return int(context.lake.reader.dataset(t.EMBEDDINGS.name).count_rows(filter=is_theirs))


def _tell_failed(context: JobContext, run: EmbedRun, version: int, num_failed: int) -> None:
    rows = _missing(context, run, version).select(t.BOX_ID).limit(_MAX_NAMED).collect()
    named = ", ".join(sorted(row[t.BOX_ID] for row in rows))
    told = (
        f"{num_failed:,} crops have no vector: they do not decode, or what {run.network.name} says "
        f"of them is no finite number (box {named}{', …' if num_failed > len(rows) else ''})"
    )
    if not context.counts[_MADE] and not context.counts[_AT_HAND]:
        raise InputDataError(f"{told}; choose another probe.network")
    summary.warn(context.console, told)
