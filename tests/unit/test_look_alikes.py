"""The second check of two photos, flat pictures, and joining pairs to groups."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from croplake.examples.look_alikes import drop_flat, drop_unlike, join_groups


def cells(value: int, other: int | None = None) -> bytes:
    """Sixteen grey cells, the last four of another value."""
    grid = np.full((16, 3), value, dtype=np.uint8)
    if other is not None:
        grid[12:] = other
    return grid.tobytes()


def test_a_photo_whose_cells_are_nearly_alike_is_flat() -> None:
    photos = {"white": cells(255), "noise": cells(200, 204), "sky": cells(200, 215)}
    batch = pa.RecordBatch.from_pydict(
        {"image_id": list(photos), "photo_colors": list(photos.values())}
    )
    (left,) = drop_flat([batch])
    assert left.column("image_id").to_pylist() == ["sky"]


def test_a_pair_is_left_where_colours_and_shape_agree() -> None:
    pairs = [
        ("same", cells(100, 50), 1.5, cells(100, 50), 1.5),
        ("scaled", cells(100, 50), 1.5, cells(104, 48), 1.49),
        ("other colours", cells(100, 50), 1.5, cells(160, 110), 1.5),
        ("other shape", cells(100, 50), 1.5, cells(100, 50), 1.0),
        ("wider", cells(100, 50), 1.0305, cells(100, 50), 1.0),
        ("narrower", cells(100, 50), 1.0, cells(100, 50), 1.0305),
    ]
    names = ("name", "colors", "aspect_ratio", "other_colors", "other_aspect_ratio")
    columns = dict(zip(names, map(list, zip(*pairs, strict=True)), strict=True))
    (left,) = drop_unlike([pa.RecordBatch.from_pydict(columns)], max_color_difference=10)
    assert left.column("name").to_pylist() == ["same", "scaled"]


def test_no_rows_are_no_rows() -> None:
    schema = pa.schema([("image_id", pa.string()), ("photo_colors", pa.binary())])
    empty = pa.RecordBatch.from_pylist([], schema=schema)
    assert [batch.num_rows for batch in drop_flat([empty])] == [0]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20))
def test_photos_that_pairs_connect_are_one_group_named_by_its_least(
    numbers: list[tuple[int, int]],
) -> None:
    pairs = [(f"{one:02}", f"{other:02}") for one, other in numbers]
    groups = join_groups(pairs)
    reach = {photo: {photo} for pair in pairs for photo in pair}
    for _ in reach:
        for one, other in pairs:
            both = reach[one] | reach[other]
            reach[one] = reach[other] = both
    assert groups == {photo: min(group) for photo, group in reach.items()}
