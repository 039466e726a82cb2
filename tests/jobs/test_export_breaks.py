"""Exports that break off: where, with which exit code, and that the same command goes on."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.errors import PythonException

from croplake import storage
from croplake.export.plan import Manifest
from croplake.export.task import write_shards
from croplake.jobs import export_examples
from tests.jobs.exports import export, tree
from tests.jobs.small_lake import SmallLake
from tests.jobs.world import outside_environment


def test_files_that_cannot_be_written_end_in_exit_code_3_and_the_next_run_goes_on(
    odd: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "away"
    blocked = into / "train-000000.tar"
    assert export(odd, "webdataset", into) == 0
    whole = tree(into)
    blocked.unlink()
    blocked.mkdir()  # a folder is in its way
    (blocked / "x").write_text("in the way")
    assert export(odd, "webdataset", into) == 3
    said = capsys.readouterr().err
    assert "1 of 1 shards could not be written: train-000000: " in said
    assert "the same command goes on with what is missing" in said
    (blocked / "x").unlink()
    blocked.rmdir()
    assert export(odd, "webdataset", into) == 0
    assert tree(into) == whole


@pytest.mark.parametrize(
    ("number", "exit_code", "told"),
    [
        (errno.EACCES, 2, "expected a folder, new or there, that this user may write"),
        (errno.ENOSPC, 3, "once that is mended, run the same command again"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_the_work(
    number: int,
    exit_code: int,
    told: str,
    odd: SmallLake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(address: str, content: bytes) -> None:
        raise OSError(number, os.strerror(number), address)

    monkeypatch.setattr(storage, "write_bytes", refuse)
    monkeypatch.setattr(export_examples, "rows_of", None)  # the work would end in a TypeError
    assert export(odd, "webdataset", tmp_path / "away") == exit_code
    said = capsys.readouterr().err
    assert f"away: cannot be written: [Errno {number}]" in said
    assert told in said


def test_a_disk_that_is_full_when_the_notices_are_written_is_exit_code_3(
    odd: SmallLake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fill(into: str, manifest: Manifest) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    into = tmp_path / "away"
    with monkeypatch.context() as full:
        full.setattr(export_examples, "write_notices", fill)
        assert export(odd, "webdataset", into) == 3
    said = capsys.readouterr().err
    assert "away: the export broke off: OSError: [Errno 28] No space left on device" in said
    assert "the same command goes on with what is missing" in said
    assert export(odd, "webdataset", into) == 0


def test_a_task_that_dies_is_exit_code_3_and_one_that_errs_is_a_defect(
    odd: SmallLake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(
        batches: Iterable[pa.RecordBatch], *, into: str, manifest: Manifest
    ) -> Iterator[pa.RecordBatch]:
        os._exit(1)

    def err(
        batches: Iterable[pa.RecordBatch], *, into: str, manifest: Manifest
    ) -> Iterator[pa.RecordBatch]:
        raise ValueError("rows came that nobody planned")

    into = tmp_path / "away"
    monkeypatch.setattr(export_examples, "write_shards", die)
    assert export(odd, "webdataset", into) == 3
    said = capsys.readouterr().err
    assert "away: the export broke off: Py4JJavaError: " in said
    assert "Python worker exited unexpectedly" in said
    assert "the same command goes on with what is missing" in said
    assert "\tat org.apache" not in said
    monkeypatch.setattr(export_examples, "write_shards", err)
    with pytest.raises(PythonException, match="rows came that nobody planned"):
        export(odd, "webdataset", into)
    monkeypatch.undo()
    assert export(odd, "webdataset", into) == 0


def test_shards_that_other_machines_keep_to_themselves_are_exit_code_3_and_named(
    odd: SmallLake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    into, there = tmp_path / "away", (tmp_path / "another machine's disk").as_uri()

    def write_there(
        batches: Iterable[pa.RecordBatch], *, into: str, manifest: Manifest
    ) -> Iterator[pa.RecordBatch]:
        return write_shards(batches, into=there, manifest=manifest)

    with monkeypatch.context() as unshared:
        unshared.setattr(export_examples, "write_shards", write_there)
        assert export(odd, "webdataset", into) == 3
    said = capsys.readouterr()
    assert "3 shards were written, but are not there" in said.err
    assert ": train-000000, validation-000000, test-000000; expected --into to be a" in said.err
    assert "pictures" not in said.out
    assert not (into / "LICENSES.csv").exists()
    assert export(odd, "webdataset", into) == 0


@pytest.mark.full
def test_an_export_that_is_killed_leaves_whole_files_only_and_goes_on(
    odd: SmallLake, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    many = ["--set", "export.min_shards=5"]
    assert export(odd, "folders", whole, *many) == 0
    command = ["croplake", "export-examples", "--conf", odd.conf, "--format", "folders"]
    process = subprocess.Popen(
        [*command, "--into", str(killed), *many], env=outside_environment(), text=True
    )
    done = killed / "__croplake__" / "done"
    while process.poll() is None and not any(done.glob("*")):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    process.kill()
    process.wait()
    expected = tree(whole)
    for path, content in tree(killed).items():
        if not path.startswith("__croplake__/"):
            assert content == expected[path]
    assert export(odd, "folders", killed, *many) == 0
    assert tree(killed).keys() == expected.keys()
