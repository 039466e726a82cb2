"""Checked rows of one bucket to rows of a table: sorted, one left of equal ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from croplake import tables as t
from croplake.catalog.csv_rows import IMAGE
from croplake.catalog.ids import box_ids, image_ids

_GROUP: Final = "group"


def finish_photos(rows: pa.Table) -> dict[str, pa.Array]:
    """Sorts photos by id; of equal ones the greatest is left, compared column by column.

    Args:
        rows: of one bucket, as `PhotoReader` reads them.

    Returns:
        The columns of `photos` but its partition's.
    """
    images = rows[IMAGE].to_numpy()
    columns = [name for name in rows.column_names if name != IMAGE]
    kept = _greatest_of_equal(rows, [images], columns)
    rows = rows.take(kept)
    return {name: rows[name] for name in columns} | {t.IMAGE_ID: image_ids(images[kept])}


def finish_boxes(rows: pa.Table, mid: str) -> dict[str, pa.Array]:
    """Sorts boxes by photo and corners; of equal ones the most confident is left.

    Then that of the last source by name, that of the set flags, that of the greater corners. Equal
    are those that agree in photo and corners, rounded to millionths.

    Args:
        rows: of one class, as `BoxReader` reads them.
        mid: the class.

    Returns:
        The columns of `boxes` but its partition's.
    """
    images = rows[IMAGE].to_numpy()
    millionths = [
        np.floor(rows[name].to_numpy() * 1e6 + 0.5).astype(np.uint64) for name in t.CORNERS
    ]
    x, y = ((low << np.uint64(32)) | high for low, high in (millionths[:2], millionths[2:]))
    kept = _greatest_of_equal(rows, [images, x, y], (t.CONFIDENCE, t.SOURCE, *t.FLAGS, *t.CORNERS))
    rows = rows.take(kept)
    ids = image_ids(images[kept])
    return {name: rows[name] for name in rows.column_names} | {
        t.IMAGE_ID: ids,
        t.LABEL_MID: pa.repeat(mid, len(ids)),
        t.BOX_ID: box_ids(ids, mid, [corner[kept] for corner in millionths]),
    }


def _greatest_of_equal(
    rows: pa.Table, keys: Sequence[NDArray[Any]], ranked: Sequence[str]
) -> NDArray[np.int64]:
    """Sorts rows by numbers; of those that have the same one is left.

    Args:
        rows: in any order.
        keys: numbers of each row, the first sorted by first.
        ranked: columns by which the greatest of equal rows is found; nulls are least.

    Returns:
        The places of the rows that are left, in their order.
    """
    order = np.asarray(np.lexsort(keys[::-1]))
    is_same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    if not is_same.any():
        return order
    group = np.append(0, np.cumsum(~is_same))
    is_doubled = np.append(is_same, False) | np.append(False, is_same)
    doubled, groups = order[is_doubled], group[is_doubled]
    by_rank = pc.sort_indices(
        rows.take(doubled).append_column(_GROUP, pa.array(groups)),
        sort_keys=[(_GROUP, "ascending"), *((name, "descending") for name in ranked)],
        null_placement="at_end",
    ).to_numpy()
    _, firsts = np.unique(groups[by_rank], return_index=True)
    kept = np.concatenate([order[~is_doubled], doubled[by_rank[firsts]]])
    of_groups = np.concatenate([group[~is_doubled], groups[by_rank[firsts]]])
    return np.asarray(kept[np.argsort(of_groups)])
