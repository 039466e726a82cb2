"""The nearest vectors: exactly, beside a naive reference, and by an index."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from croplake import tables as t
from croplake.errors import IncompleteError, SettingsError
from croplake.inference import neighbour_index
from croplake.inference.neighbour_index import drop_indexes, open_index
from croplake.inference.neighbours import ExactSearch, Neighbour, find_nearest
from croplake.inference.vectors import StoredVectors

DRAW = np.random.default_rng(11)


@dataclass
class Stored:
    """Vectors as a lake would have them, a block at a time."""

    vectors: Any
    files: list[str] = field(default_factory=lambda: ["one.parquet"])
    digest: str = "d1"
    block_rows: int = 300
    reader: Any = field(
        default_factory=lambda: type("R", (), {"path": lambda self, name: "lake"})()
    )

    @property
    def num_rows(self) -> int:
        return len(self.vectors)

    def blocks(self, num_features: int | None = None) -> Iterator[tuple[pa.RecordBatch, Any]]:
        for start in range(0, len(self.vectors), self.block_rows):
            part = self.vectors[start : start + self.block_rows]
            ids = [f"{row:06d}" for row in range(start, start + len(part))]
            keys = {t.BOX_ID: ids, t.IMAGE_ID: [f"i{row}" for row in ids], t.RECIPE_ID: ids}
            yield pa.RecordBatch.from_pydict(keys), part


def stored(vectors: Any, **changes: Any) -> StoredVectors:  # noqa: ANN401
    made: Any = Stored(np.asarray(vectors, np.float32), **changes)
    return made  # type: ignore[no-any-return]


def naive(vectors: Any, query: Any, count: int) -> list[int]:  # noqa: ANN401
    double = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(double, axis=1) * np.linalg.norm(query)
    likeness = [
        float(row @ query) / n if n else 0.0 for row, n in zip(double, lengths, strict=True)
    ]
    return sorted(range(len(likeness)), key=lambda row: (-likeness[row], row))[:count]


def rows_of(found: list[Neighbour]) -> list[int]:
    return [int(one.box_id) for one in found]


@pytest.mark.parametrize("count", [1, 20, 299, 1000, 5000])
def test_exact_search_finds_what_a_naive_one_does_in_its_order(count: int) -> None:
    vectors = DRAW.normal(size=(1000, 16))
    query = DRAW.normal(size=16).astype(np.float32)
    search = ExactSearch(stored(vectors).blocks)
    found = search.nearest(query, count)
    assert rows_of(found) == naive(vectors, query, count)
    cosine = float(vectors[rows_of(found)[0]] @ query)
    cosine /= float(np.linalg.norm(vectors[rows_of(found)[0]]) * np.linalg.norm(query))
    assert found[0].distance == pytest.approx(1 - cosine, abs=1e-5)


def test_a_crop_is_at_no_distance_from_itself_whatever_its_length() -> None:
    vectors = DRAW.normal(size=(50, 8)).astype(np.float32)
    (found,) = ExactSearch(stored(vectors).blocks).nearest(vectors[7] * 100, 1)
    assert rows_of([found]) == [7]
    assert 0 <= found.distance < 1e-5


def test_zero_is_at_a_right_angle_to_all_and_what_is_no_number_is_left_out() -> None:
    vectors = [[1.0, 0.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], [-1.0, 0.0]]
    search = ExactSearch(stored(vectors, block_rows=2).blocks)
    found = search.nearest(np.array([2.0, 0.0], np.float32), 10)
    assert [(one.box_id, one.distance) for one in found] == [
        ("000000", 0.0),
        ("000001", 1.0),
        ("000004", 2.0),
    ]


def test_there_is_nothing_near_where_there_is_nothing() -> None:
    search = ExactSearch(stored(np.zeros((0, 4))).blocks)
    assert search.nearest(np.ones(4, np.float32), 3) == []
    assert find_nearest(search, np.ones(4, np.float32), 3) == []


def test_a_box_that_was_cut_often_is_found_once_and_more_are_asked_for_until_there_are_enough() -> (
    None
):
    @dataclass
    class Often:
        def nearest(self, query: Any, count: int) -> list[Neighbour]:  # noqa: ANN401
            often = [Neighbour("a", "i", f"r{place:02}", place / 100) for place in range(50)]
            return [*often, Neighbour("b", "i", "r00", 0.6)][:count]

    found = find_nearest(Often(), np.ones(2, np.float32), 2)
    assert [(one.box_id, one.recipe_id) for one in found] == [("a", "r00"), ("b", "r00")]


CENTRES = DRAW.normal(size=(60, 48)) + 1.5


def clustered(num_rows: int) -> Any:  # noqa: ANN401
    """As networks' vectors are: around many centres, and all in one corner."""
    return CENTRES[DRAW.integers(0, 60, num_rows)] + DRAW.normal(0, 0.5, (num_rows, 48))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("faiss", reason="the extra `similar` is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def in_a_narrow_cone(num_rows: int) -> Any:  # noqa: ANN401
    """As those of an untrained network are: no centres, and next to no angle between any two."""
    return 10 + DRAW.normal(0, 0.5, (num_rows, 48)) * np.geomspace(3, 0.1, 48)


@pytest.mark.parametrize("draw", [clustered, in_a_narrow_cone])
def test_an_index_finds_95_of_100_of_the_nearest(cache: Path, draw: Callable[[int], Any]) -> None:
    vectors = draw(20_000)
    queries = draw(50).astype(np.float32)
    told: list[str] = []
    search = open_index(stored(vectors, block_rows=3000), 48, max_bytes=10**9, tell=told.append)
    shares = []
    for query in queries:
        found = search.nearest(query, 20)
        assert len(found) == 20
        assert [one.distance for one in found] == sorted(one.distance for one in found)
        shares.append(len(set(rows_of(found)) & set(naive(vectors, query, 20))) / 20)
    assert np.mean(shares) >= 0.95
    assert len(told) == 1


@pytest.mark.parametrize("share", [2, 50, 4000])
def test_an_index_finds_95_of_100_of_the_nearest_that_are_wanted_however_rare(
    cache: Path, share: int
) -> None:
    vectors, queries = clustered(20_000), clustered(50).astype(np.float32)
    rows = range(0, 20_000, share)
    wanted = pads.field(t.BOX_ID).isin([f"{row:06d}" for row in rows])
    search = open_index(stored(vectors), 48, max_bytes=10**9, tell=lambda text: None, wanted=wanted)
    count, shares = min(20, len(rows)), []
    for query in queries:
        found = rows_of(search.nearest(query, 20))
        assert set(found) <= set(rows)
        assert len(found) == count
        nearest = {rows[place] for place in naive(vectors[::share], query, count)}
        shares.append(len(nearest & set(found)) / count)
    assert np.mean(shares) >= 0.95
    nothing = replace(search, wanted=pads.field(t.BOX_ID) == "none of them")
    assert nothing.nearest(queries[0], 20) == []


def test_an_index_is_kept_until_what_it_is_of_changes(cache: Path) -> None:
    vectors, told = clustered(2000), list[str]()
    first = open_index(stored(vectors), 48, max_bytes=10**9, tell=told.append)
    assert open_index(stored(vectors), 48, max_bytes=10**9, tell=told.append) == first
    assert len(told) == 1
    later = stored(vectors[:1000], files=["one.parquet", "two.parquet"])
    other = open_index(later, 48, max_bytes=10**9, tell=told.append)
    assert len(told) == 2
    assert not first.folder.exists()
    assert max(rows_of(other.nearest(vectors[5].astype(np.float32), 1000))) < 1000
    drop_indexes("lake")
    assert not other.folder.exists()


def test_what_killed_processes_left_of_indexes_goes(cache: Path) -> None:
    first = open_index(stored(clustered(500)), 48, max_bytes=10**9, tell=print)
    old, young = (first.folder.with_name(f".making-{age}") for age in ("old", "young"))
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (0, 0))
    later = stored(clustered(500), files=["two.parquet"])
    open_index(later, 48, max_bytes=10**9, tell=print)
    assert not old.exists()
    assert young.exists()


def test_an_index_that_fills_the_disk_is_told_with_the_way_out(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faiss = pytest.importorskip("faiss")

    write_index = faiss.write_index
    monkeypatch.setattr(faiss, "write_index", lambda index, _: write_index(index, "/dev/full"))
    with pytest.raises(IncompleteError, match=r"the index could not be written .* make room there"):
        open_index(stored(clustered(500)), 48, max_bytes=10**9, tell=print)
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("num_rows", [1, 5, 100])
def test_an_index_of_few_gives_all_of_them_and_what_points_nowhere_is_not_in_it(
    cache: Path, num_rows: int
) -> None:
    vectors = np.vstack([clustered(num_rows), np.zeros((1, 48)), np.full((1, 48), np.nan)])
    search = open_index(stored(vectors), 48, max_bytes=10**9, tell=lambda text: None)
    query = vectors[0].astype(np.float32)
    assert sorted(rows_of(find_nearest(search, query, 1000))) == [*range(num_rows)]


def test_an_index_that_would_be_too_large_is_refused_with_the_way_out(cache: Path) -> None:
    with pytest.raises(SettingsError, match=r"similar\.max_index_bytes: .* 96,000 bytes"):
        open_index(stored(clustered(2000)), 48, max_bytes=95_999, tell=print)


def test_without_faiss_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SettingsError, match=r"pip install 'croplake\[similar\]', or raise similar"):
        open_index(stored(clustered(100)), 48, max_bytes=10**9, tell=print)


def test_faiss_is_loaded_when_it_is_needed_only() -> None:
    code = f"import sys, {neighbour_index.__name__}; assert 'faiss' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
