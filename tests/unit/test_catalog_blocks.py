"""Blocks of rows: those of a large class are digit by digit, and give the same file."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from croplake import tables as t
from croplake.catalog import blocks
from croplake.catalog.blocks import BLOCKS, DATA, PART, read_ranges, write_blocks
from croplake.catalog.csv_rows import BUCKET, BoxReader
from croplake.catalog.formats import BOXES_HEADER

MIDS = ("/m/0apple", "/m/0pear", "/m/0plum")
READER = BoxReader(BOXES_HEADER, ",".join(BOXES_HEADER), MIDS)


def boxes_csv(folder: Path) -> Path:
    """Apples of every photo, pears of photos that begin alike, few plums; many of them twice."""
    rng = random.Random(7)
    rows = []
    for number in range(600):
        image_id = f"{rng.getrandbits(64):016x}"
        corner = f"0.{rng.randrange(10, 30)}"
        rows.append(f"{image_id},xclick,/m/0apple,1,{corner},0.9,0.2,0.9,0,0,0,0,0")
        rows.append(f"0{image_id[1:]},xclick,/m/0pear,1,{corner},0.9,0.2,0.9,0,0,0,0,0")
        if number % 100 == 0:
            rows.append(f"{image_id},xclick,/m/0plum,1,{corner},0.9,0.2,0.9,0,0,0,0,0")
    rows += rows[:100]
    rng.shuffle(rows)
    path = folder / "boxes.csv"
    path.write_text("\n".join([",".join(BOXES_HEADER), *rows]) + "\n")
    return path


def written(path: Path, folder: Path, range_bytes: int) -> tuple[pa.Table, set[int]]:
    """The rows of the file that the blocks of a CSV give, and the parts that there were."""
    num_ranges = -(-path.stat().st_size // range_bytes)
    ranges = pa.RecordBatch.from_pydict({"id": list(range(num_ranges))})
    made = read_ranges(
        [ranges], uri=str(path), range_bytes=range_bytes, reader=READER, subset="train"
    )
    read = pa.Table.from_batches(made, BLOCKS)
    found = read.filter(read[BUCKET].is_valid()).sort_by(
        [(BUCKET, "ascending"), (PART, "ascending")]
    )
    batches = found.select([BUCKET, PART, DATA]).to_batches()
    (file,) = write_blocks(batches, folder=str(folder), reader=READER, subset="train")
    (row,) = file.to_pylist()
    return pq.ParquetFile(folder / row["path"]).read(), set(found[PART].to_pylist())


@pytest.mark.parametrize("range_bytes", [4_000, 40_000, 1_000_000])
def test_rows_of_large_classes_come_in_the_same_order(
    range_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = boxes_csv(tmp_path)
    expected, parts = written(path, tmp_path / "whole", 1_000_000)
    assert parts == {0}
    assert expected.num_rows == 1206
    assert expected[t.LABEL_MID].to_pylist() == sorted(expected[t.LABEL_MID].to_pylist())
    monkeypatch.setattr(blocks, "_LARGE", 28)
    found, parts = written(path, tmp_path / "parts", range_bytes)
    assert parts == set(range(17))
    assert found.equals(expected)


def test_a_large_class_without_a_whole_block_is_read_digit_by_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = boxes_csv(tmp_path)
    expected, _ = written(path, tmp_path / "whole", 1_000_000)
    monkeypatch.setattr(blocks, "_LARGE", 1)
    found, parts = written(path, tmp_path / "parts", 10_000)
    assert parts == set(range(1, 17))
    assert found.equals(expected)
