from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from croplake import commits
from croplake import tables as t
from croplake.data_files import DataFile, write_rows


def files_of(dataset: str, folder: str) -> list[DataFile]:
    """One file of a partition with one box."""
    names = [name for name in t.SELECTED_BOXES.columns if name != t.DATASET]
    schema = pa.schema([t.SELECTED_BOXES.schema.field(name) for name in names])
    box = pa.RecordBatch.from_pylist([{t.BOX_ID: dataset}], schema)
    partition = {t.DATASET: dataset}
    written = write_rows([box], folder=folder, table=t.SELECTED_BOXES, partition=partition)
    return [DataFile(**row) for batch in written for row in batch.to_pylist()]


def test_files_for_a_table_that_another_run_makes_meanwhile_are_committed_beside_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path.as_uri()
    commit = partial(commits.commit_files, path=path, table=t.SELECTED_BOXES, metadata={})
    commit(files_of("theirs", path), partition={t.DATASET: "theirs"})
    exists, looks = commits._exists, iter([False])
    monkeypatch.setattr(commits, "_exists", lambda path: next(looks, None) is None and exists(path))
    commit(files_of("ours", path), partition={t.DATASET: "ours"})
    folders = sorted(Path(file).parent.name for file in DeltaTable(path).file_uris())
    assert folders == ["dataset=ours", "dataset=theirs"]
