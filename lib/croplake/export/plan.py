"""What an export is made of, decided before its first file and kept beside its files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from croplake import storage
from croplake.errors import InputDataError, SettingsError

Format = Literal["folders", "webdataset", "tfrecord", "imagefolder"]
What = Literal["examples", "crops"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
WHATS: Final[tuple[What, ...]] = get_args(What)

OWN_FOLDER: Final = "__croplake__"
"""Where an export keeps its own files. Of the readers, datasets alone looks everywhere below a
folder; it leaves out what starts with two underscores, and `rm -r DIR/*` does not leave it behind.
"""
MANIFEST: Final = f"{OWN_FOLDER}/manifest.json"
SUMMARY: Final = f"{OWN_FOLDER}/summary.json"
_LAYOUT: Final = 1
"""Counted up with every change that gives other files for the same rows."""
ALONG_BYTES: Final[Mapping[Format, int]] = {
    "folders": 1024,
    "webdataset": 4096,  # three headers, and each member filled up to 512
    "tfrecord": 1024,
    "imagefolder": 1024,
}
"""What goes along with a picture takes about so much."""
_WAY_OUT: Final = "export into another folder, or remove this one"
_FILL: Final = 0.9
"""Share of a shard's greatest size that is aimed at: pictures are not all of one size."""


@dataclass(frozen=True)
class Request:
    """What is to be exported.

    Attributes:
        format: of the files.
        of: which pictures.
        into: path or address of the folder.
    """

    format: Format
    of: What
    into: str


@dataclass(frozen=True)
class Shard:
    """A part of a split that one task writes.

    Attributes:
        id: of all shards of an export.
        split: the split that it is of.
        number: in its split, from 0 on.
        num_of_split: shards of its split.
        rows: pictures.
        digest: over all that is known of its rows, whatever their order.
    """

    id: int
    split: str
    number: int
    num_of_split: int
    rows: int
    digest: str

    @property
    def name(self) -> str:
        """A file name without an extension."""
        return f"{self.split}-{self.number:06d}"


@dataclass(frozen=True)
class Label:
    """A category.

    Attributes:
        label_index: its number.
        category: its name.
        folder: its name as a folder.
    """

    label_index: int
    category: str
    folder: str


@dataclass(frozen=True)
class Manifest:
    """The whole of an export.

    Attributes:
        format: of its files.
        of: what its pictures are.
        dataset: name.
        tables: Delta's id of every table that its rows come from.
        versions: of these tables, when it began.
        recipe_id: of its crops, whose keys do not tell; None for examples, whose keys do.
        buckets: how many parts the rows of each split fall into, by a hash of their keys.
        labels: in the order of their index.
        shards: the buckets that are not empty.
        layout: of the files.
    """

    format: Format
    of: What
    dataset: str
    tables: Mapping[str, str]
    versions: Mapping[str, int]
    recipe_id: str | None
    buckets: Mapping[str, int]
    labels: tuple[Label, ...]
    shards: tuple[Shard, ...]
    layout: int = _LAYOUT

    @property
    def folders(self) -> dict[str, str]:
        """Category to folder."""
        return {label.category: label.folder for label in self.labels}

    @property
    def splits(self) -> list[str]:
        """The splits that have a picture."""
        return list(dict.fromkeys(shard.split for shard in self.shards))

    def to_bytes(self) -> bytes:
        """As a file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """From its file."""
        values: dict[str, Any] = json.loads(content)
        values["labels"] = tuple(Label(**label) for label in values["labels"])
        values["shards"] = tuple(Shard(**shard) for shard in values["shards"])
        return cls(**values)


def num_buckets(*, rows: int, row_bytes: float, shard_bytes: int, min_shards: int) -> int:
    """How many shards a split has.

    Args:
        rows: of the split.
        row_bytes: mean size of a picture with all that goes along.
        shard_bytes: greatest size of a shard.
        min_shards: as many at least are filled; where rows are few, some stay empty.
    """
    needed = math.ceil(rows * row_bytes / (shard_bytes * _FILL))
    return max(1, min(rows, max(needed, min_shards)))


def read_manifest(into: str) -> Manifest | None:
    """The manifest of the export that is in a folder; None where nothing is there.

    Args:
        into: address of the folder.

    Raises:
        InputDataError: something else is there.
    """
    if storage.exists(address := storage.join(into, MANIFEST)):
        try:
            return Manifest.from_bytes(storage.read_bytes(address))
        except (ValueError, TypeError, KeyError) as error:
            raise InputDataError(
                f"{address}: is no manifest of this croplake's ({error}); {_WAY_OUT}"
            ) from error
    if set(storage.names_in(into)) - {OWN_FOLDER}:
        raise InputDataError(
            f"{into}: is not empty, and holds no export of croplake's; expected a new or an empty "
            "folder: name another, or remove what is there"
        )
    return None


def check_request(found: Manifest, format: Format, of: What, dataset: str, into: str) -> None:
    """Makes sure that what is asked for is what is there.

    Args:
        found: the manifest that is there.
        format: asked for.
        of: asked for.
        dataset: asked for.
        into: where.

    Raises:
        SettingsError: another format, other pictures or another dataset.
    """
    asked = _in_words(of, dataset, format)
    there = _in_words(found.of, found.dataset, found.format)
    if there != asked:
        raise SettingsError(f"{into}: holds {there}, asked for is {asked}; {_WAY_OUT}")


def check_rows(found: Manifest, wanted: Manifest, into: str) -> None:
    """Makes sure that an export goes on with the pictures it began with.

    Args:
        found: the manifest that is there.
        wanted: the one that this run would write, in the buckets of `found`.
        into: where.

    Raises:
        InputDataError: they are others by now; the text names what has changed.
    """
    if changes := [*_changes(found, wanted)]:
        raise InputDataError(
            f"{into}: holds {_in_words(found.of, found.dataset, found.format)}; what it is made of "
            f"has changed since it was begun, and one folder cannot hold both: "
            f"{'; '.join(changes)}; {_WAY_OUT}"
        )


def _changes(found: Manifest, wanted: Manifest) -> Iterator[str]:
    """What must not change while an export is made, and did.

    Versions alone may: tables are maintained, too.
    """
    if found.layout != wanted.layout:
        yield f"the layout of the files (it was {found.layout}, now it is {wanted.layout})"
    if found.recipe_id != wanted.recipe_id:
        yield f"fetch.recipe (its id was {found.recipe_id}, now it is {wanted.recipe_id})"
    if found.labels != wanted.labels:
        yield "the categories, their order or their folders"
    if found.tables != wanted.tables:
        yield f"the tables (others lie at the place of {', '.join(found.tables)})"
    if found.shards != wanted.shards:
        versions = [
            f"{table} was at version {version}, now it is at {wanted.versions.get(table)}"
            for table, version in found.versions.items()
            if version != wanted.versions.get(table)
        ]
        yield f"the rows ({', '.join(versions)})" if versions else "the rows"


def _in_words(of: What, dataset: str, format: Format) -> str:
    return f"{of} of dataset {dataset} as {format}"
