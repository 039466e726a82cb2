"""The vectors of a network out of the table `embeddings`, block by block and without Spark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.inference.embedding import Vectors
from croplake.inference.linear_head import Examples, Labels
from croplake.reader import LakeReader

KEYS: Final = (t.BOX_ID, t.IMAGE_ID, t.RECIPE_ID)
_BLOCK_ROWS: Final = 8192


@dataclass(frozen=True)
class StoredVectors:
    """The vectors of one network in a version of the table.

    Attributes:
        reader: of the lake.
        version: of the table.
        digest: of the network.
        network: its name.
        run_id: of the run that made the last of them.
        num_rows: how many there are.
    """

    reader: LakeReader
    version: int
    digest: str
    network: str
    run_id: str
    num_rows: int

    @property
    def files(self) -> list[str]:
        """The files that hold them; a file never changes."""
        partition = {t.NETWORK_DIGEST: self.digest}
        return self.reader.files(t.EMBEDDINGS.name, version=self.version, partition=partition)

    def blocks(
        self, num_features: int | None = None, *, wanted: pads.Expression | None = None
    ) -> Iterator[tuple[pa.RecordBatch, Vectors]]:
        """All of them, or those that are wanted, some thousand at a time.

        Args:
            num_features: their length; None is the first one's.
            wanted: condition on the columns of `KEYS`; None is all.

        Yields:
            The columns of `KEYS`, and the vectors, shape (N, D), N at least 1.

        Raises:
            InputDataError: a vector has another length, or there is none in its row.
        """
        rows = self.reader.dataset(t.EMBEDDINGS.name, version=self.version)
        is_its = pads.field(t.NETWORK_DIGEST) == self.digest
        batches = rows.to_batches(
            columns=[*KEYS, t.VECTOR],
            filter=is_its if wanted is None else is_its & wanted,
            batch_size=_BLOCK_ROWS,
            # Reading ahead would hold whole row groups of many files.
            batch_readahead=1,
            fragment_readahead=1,
        )
        for batch in batches:
            if batch.num_rows:
                lists = batch.column(t.VECTOR)
                num_features = num_features or len(lists[0]) or None
                yield batch.select(list(KEYS)), self._matrix(lists, num_features)

    def _matrix(self, lists: pa.Array, num_features: int | None) -> Vectors:
        lengths = set(pc.unique(pc.list_value_length(lists)).to_pylist())
        if num_features is None or lengths != {num_features}:
            found = ", ".join(sorted(map(str, lengths - {num_features})))
            raise InputDataError(
                f"{self.reader.path(t.EMBEDDINGS.name)}: vectors of {self.network} have "
                f"{num_features or 'no'} numbers, others {found}; croplake lake check names them"
            )
        flat = lists.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat, np.float32).reshape(len(lists), num_features)


def find_networks(reader: LakeReader, version: int) -> list[StoredVectors]:
    """The networks that a version of the table has vectors of, those made last first."""
    keys = [t.NETWORK_DIGEST, t.NETWORK, t.RUN_ID]
    counts = reader.count_by(t.EMBEDDINGS.name, keys, version=version)
    found: dict[str, StoredVectors] = {}
    for (digest, network, run_id), num_rows in sorted(counts.items(), key=lambda item: item[0][2]):
        before = found.pop(digest).num_rows if digest in found else 0
        found[digest] = StoredVectors(
            reader, version, digest, network, run_id, before + num_rows
        )  # run ids sort by time
    return list(found.values())[::-1]


@dataclass(frozen=True)
class Chosen:
    """Examples whose vectors are wanted, sorted by `example_id`: in no order that means anything.

    Attributes:
        box_ids: of N crops.
        labels: int32, shape (N,).
    """

    box_ids: pa.Array
    labels: Labels


def choose_examples(
    reader: LakeReader, version: int, dataset: str, split: str, *, at_most: int | None = None
) -> Chosen:
    """The examples of a split, or about as many as are wanted: always the same ones.

    Args:
        reader: of the lake.
        version: of the table `examples`.
        dataset: whose examples.
        split: of the dataset.
        at_most: about how many; None is all.
    """
    partition = {t.DATASET: dataset, t.SPLIT: split}
    files = reader.files(t.EXAMPLES.name, version=version, partition=partition)
    columns = [t.EXAMPLE_ID, t.BOX_ID, t.LABEL_INDEX]
    if not files:
        return Chosen(pa.array([], pa.string()), np.zeros(0, np.int32))
    system, paths = storage.on_filesystem(files)
    rows = pads.dataset(paths, format="parquet", filesystem=system)
    num_rows = rows.count_rows()
    where: Any = None
    if at_most is not None and num_rows > at_most:
        # Example ids are hashes, in hexadecimal: below a bound lies the bound's share of them.
        where = pads.field(t.EXAMPLE_ID) < f"{at_most * 2**32 // num_rows:08x}"
    found = rows.to_table(columns=columns, filter=where).sort_by(t.EXAMPLE_ID)
    box_ids = found.column(t.BOX_ID).combine_chunks()
    return Chosen(box_ids, found.column(t.LABEL_INDEX).to_numpy().astype(np.int32))


def load_examples(
    stored: StoredVectors, chosen: Chosen, recipe_id: str, num_features: int
) -> Examples:
    """Brings vectors and labels together, in the examples' order; those without a vector are left.

    Returns:
        Vectors and labels; the vectors take four bytes a number.
    """
    vectors = np.empty((len(chosen.box_ids), num_features), np.float32)
    is_there = np.zeros(len(chosen.box_ids), bool)
    for places, found in _matched(stored, chosen, recipe_id, num_features):
        vectors[places] = found
        is_there[places] = True
    if is_there.all():
        return Examples(vectors, chosen.labels)
    return Examples(vectors[is_there], chosen.labels[is_there])


def stream_examples(
    stored: StoredVectors, chosen: Chosen, recipe_id: str, num_features: int
) -> Iterator[Examples]:
    """As `load_examples`, block by block and in the table's order."""
    for places, found in _matched(stored, chosen, recipe_id, num_features):
        yield Examples(found, chosen.labels[places])


def _matched(
    stored: StoredVectors, chosen: Chosen, recipe_id: str, num_features: int
) -> Iterator[tuple[Labels, Vectors]]:
    """Blocks of vectors of chosen crops, with the places of these among the chosen ones."""
    for keys, vectors in stored.blocks(num_features):
        places = pc.index_in(keys.column(t.BOX_ID), value_set=chosen.box_ids)
        is_of_recipe = pc.equal(keys.column(t.RECIPE_ID), recipe_id)
        is_wanted = pc.and_(places.is_valid(), is_of_recipe).to_numpy(zero_copy_only=False)
        if is_wanted.any():
            wanted = places.filter(pa.array(is_wanted))
            yield wanted.to_numpy(zero_copy_only=False).astype(np.int64), vectors[is_wanted]
