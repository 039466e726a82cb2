"""Executor code: crops and photos as vectors of a network."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from croplake import storage
from croplake import tables as t
from croplake.errors import CroplakeError, IncompleteError, InputDataError, SettingsError
from croplake.fetching.outcome import PhotoError
from croplake.fetching.photo import decode_photo
from croplake.inference.imagenet import PREFIX, load_imagenet_embedder
from croplake.inference.model import fit_photo
from croplake.inference.network import (
    Photo,
    Run,
    Squares,
    decode_with_tensorflow,
    load_embedder,
)

Vectors: TypeAlias = NDArray[np.float32]

PIECES_SCHEMA: Final = pa.schema(
    [
        (t.PATH, pa.string()),
        ("column", pa.string()),
        ("row_groups", pa.list_(pa.int32())),
        ("box_ids", pa.list_(pa.string())),
    ]
)
"""Parts of files that have pictures in a column; `box_ids` are the crops that are wanted of one,
null is all."""
ABOUT_SCHEMA: Final = pa.schema(
    [
        ("error", pa.string()),
        (t.DETAIL, pa.string()),
        (t.NETWORK_DIGEST, pa.string()),
        ("num_features", pa.int32()),
    ]
)
ASKED_SCHEMA: Final = pa.schema([("content", pa.binary())])
PHOTO_SCHEMA: Final = pa.schema(
    [
        (t.STATUS, pa.string()),
        (t.DETAIL, pa.string()),
        (t.VECTOR, pa.list_(pa.float32())),
        (t.JPEG, pa.binary()),
        (t.WIDTH_PX, pa.int32()),
        (t.HEIGHT_PX, pa.int32()),
    ]
)

_METHOD: Final = "2"
"""Raised when the same crop and network would give another vector."""
_DIGEST_LETTERS: Final = 16
_ERRORS: Final = {kind.__name__: kind for kind in (SettingsError, InputDataError, IncompleteError)}
_QUALITY: Final = 85


@dataclass(frozen=True)
class EmbeddingNetwork:
    """Which network makes vectors.

    Attributes:
        name: as the table `embeddings` calls it.
        address: `imagenet:NAME`, or the `.keras` or `.h5` file, readable from every executor.
        side_px: side of the squares it is given, where it takes any.
    """

    name: str
    address: str
    side_px: int


@dataclass(frozen=True)
class AboutNetwork:
    """What is known of a network once somebody has loaded it.

    Attributes:
        digest: of its weights, its side and how pictures are read: equal ones give equal vectors.
        num_features: length of its vectors.
    """

    digest: str
    num_features: int


@dataclass(frozen=True)
class EmbedRun:
    """What the rows of a run have in common.

    Attributes:
        run_id: of the run.
        recipe_id: of the crops.
        network: that makes the vectors.
        digest: its digest, as `AboutNetwork` has it.
        batch_size: crops of a step.
    """

    run_id: str
    recipe_id: str
    network: EmbeddingNetwork
    digest: str
    batch_size: int


class Embedder:
    """A network that makes vectors, in a worker's memory; made by `load`.

    Attributes:
        about: the network.
        side_px: side of its squares.
    """

    def __init__(
        self,
        run: Run,
        about: AboutNetwork,
        side_px: int,
        decode: Callable[[bytes, int], Squares] = decode_with_tensorflow,
    ) -> None:
        self._run = run
        self._decode = decode
        self.about = about
        self.side_px = side_px

    def embed(self, squares: Sequence[Squares]) -> Vectors:
        """Runs the network.

        Args:
            squares: N pictures, uint8 RGB, shape (side_px, side_px, 3).

        Returns:
            Vectors, shape (N, D); they may hold NaN where the network's weights do.
        """
        if not squares:
            return np.zeros((0, self.about.num_features), np.float32)
        return self._run(np.stack(squares))

    def decode_jpeg(self, jpeg: bytes) -> Squares:
        """Decodes a crop as training does; raises PhotoError (`broken_photo`)."""
        return self._decode(jpeg, self.side_px)

    def fit_photo(self, photo_HWC: Photo) -> Photo:
        """Brings a decoded photo to the network's size."""
        return fit_photo(photo_HWC, self.side_px)


@functools.lru_cache(maxsize=1)
def load(network: EmbeddingNetwork) -> Embedder:
    """Loads a network, once in a process.

    Raises:
        InputDataError: the file is missing, or no network that takes pictures and gives vectors.
        SettingsError: Keras has no such base.
        IncompleteError: the base's weights can not be had.
    """
    if network.address.startswith(PREFIX):
        name, side_px = network.address.removeprefix(PREFIX), network.side_px
        run, num_features, weights = load_imagenet_embedder(name, side_px)
    else:
        weights = digest_of_file(network.address)
        run, num_features, side_px = load_embedder(network.address, network.side_px)
    digest = hashlib.sha256(f"{_METHOD} {weights} {side_px}".encode()).hexdigest()
    return Embedder(run, AboutNetwork(digest[:_DIGEST_LETTERS], num_features), side_px)


def digest_of_file(uri: str) -> str:
    """The SHA-256 of a file.

    Raises:
        InputDataError: it can not be read.
    """
    try:
        return hashlib.sha256(storage.read_bytes(uri)).hexdigest()
    except OSError as error:
        raise InputDataError(f"{uri}: the network cannot be read: {error}") from error


def tell_about(
    batches: Iterable[pa.RecordBatch], *, network: EmbeddingNetwork
) -> Iterator[pa.RecordBatch]:
    """Loads a network and says what it is; of `ABOUT_SCHEMA`, one row a row in."""
    for batch in batches:
        row: dict[str, Any]
        try:
            about = load(network).about
            row = {t.NETWORK_DIGEST: about.digest, "num_features": about.num_features}
        except CroplakeError as error:
            row = {"error": type(error).__name__, t.DETAIL: str(error)}
        yield pa.RecordBatch.from_pylist([row] * batch.num_rows, ABOUT_SCHEMA)


def about_of(row: dict[str, Any]) -> AboutNetwork:
    """What a row of `ABOUT_SCHEMA` says.

    Raises:
        CroplakeError: what loading the network raised.
    """
    if row["error"] is not None:
        raise _ERRORS[row["error"]](row[t.DETAIL])
    return AboutNetwork(row[t.NETWORK_DIGEST], row["num_features"])


def embed_pieces(batches: Iterable[pa.RecordBatch], run: EmbedRun) -> Iterator[pa.RecordBatch]:
    """Makes the vectors of crops.

    Args:
        batches: of `PIECES_SCHEMA`.
        run: what the rows have in common.

    Yields:
        Rows of `tables.EMBEDDINGS`; none of a crop that does not decode, or whose vector is not
        finite: whoever asked counts what has landed.
    """
    embedder = load(run.network)
    for batch in batches:
        for piece in batch.to_pylist():
            for crops in _crops_of(piece):
                for start in range(0, crops.num_rows, run.batch_size):
                    yield _embed(crops.slice(start, run.batch_size), embedder, run)


def _crops_of(piece: dict[str, Any]) -> Iterator[pa.Table]:
    wanted = None if piece["box_ids"] is None else pa.array(piece["box_ids"], pa.string())
    with storage.open_random(piece[t.PATH]) as content:
        file = pq.ParquetFile(content)
        for group in piece["row_groups"]:
            rows = file.read_row_group(group, columns=[t.BOX_ID, t.IMAGE_ID, piece["column"]])
            if wanted is not None:
                rows = rows.filter(pc.is_in(rows.column(t.BOX_ID), value_set=wanted))
            yield rows.select([t.BOX_ID, t.IMAGE_ID, piece["column"]])


def _embed(crops: pa.Table, embedder: Embedder, run: EmbedRun) -> pa.RecordBatch:
    squares, decoded = [], []
    for number, image in enumerate(crops.column(2)):
        try:
            squares.append(embedder.decode_jpeg(image.as_py() or b""))
        except PhotoError:
            continue
        decoded.append(number)
    vectors = embedder.embed(squares)
    is_finite = np.isfinite(vectors).all(axis=1)
    kept = crops.take(pa.array(np.array(decoded, np.int64)[is_finite]))
    num_rows = kept.num_rows
    columns = {
        t.NETWORK_DIGEST: pa.array([run.digest] * num_rows, pa.string()),
        t.NETWORK: pa.array([run.network.name] * num_rows, pa.string()),
        t.RECIPE_ID: pa.array([run.recipe_id] * num_rows, pa.string()),
        t.BOX_ID: kept.column(t.BOX_ID).combine_chunks(),
        t.IMAGE_ID: kept.column(t.IMAGE_ID).combine_chunks(),
        t.VECTOR: _lists(vectors[is_finite]),
        t.RUN_ID: pa.array([run.run_id] * num_rows, pa.string()),
    }
    arrays = [columns[name] for name in t.EMBEDDINGS.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=t.EMBEDDINGS.schema)


def _lists(vectors: Vectors) -> pa.Array:
    num_rows, num_features = vectors.shape
    ends = np.arange(num_rows + 1, dtype=np.int32) * num_features
    return pa.ListArray.from_arrays(ends, pa.array(vectors.reshape(-1), pa.float32()))


def embed_photos(
    batches: Iterable[pa.RecordBatch],
    *,
    network: EmbeddingNetwork,
    max_pixels: int,
    side_px: int,
) -> Iterator[pa.RecordBatch]:
    """Makes the vectors of photos that somebody holds.

    Args:
        batches: of `ASKED_SCHEMA`.
        network: that makes the vectors.
        max_pixels: a photo of more pixels is not decoded.
        side_px: greatest side of the small picture that comes with the vector.

    Yields:
        Batches of `PHOTO_SCHEMA`, one row a row in.
    """
    embedder = load(network)
    for batch in batches:
        for content in batch.column(0):
            row: dict[str, Any]
            try:
                photo = decode_photo(content.as_py(), max_pixels=max_pixels, apply_exif=True)
                vector = embedder.embed([embedder.fit_photo(photo)])[0]
                row = {t.STATUS: t.STATUS_OK, t.VECTOR: vector} | _small(photo, side_px)
            except PhotoError as error:
                row = {t.STATUS: str(error.status), t.DETAIL: error.detail}
            yield pa.RecordBatch.from_pylist([row], PHOTO_SCHEMA)


def _small(photo_HWC: Photo, side_px: int) -> dict[str, Any]:
    image = Image.fromarray(photo_HWC)
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=_QUALITY, optimize=True)
    return {t.JPEG: encoded.getvalue(), t.WIDTH_PX: image.width, t.HEIGHT_PX: image.height}
