from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from croplake import storage
from croplake import tables as t
from croplake.care.compaction import plan_compaction
from croplake.care.log import plan_log, trim_log
from croplake.care.photo_files import FILES_SCHEMA, files_with_photos
from croplake.care.pins import find_readers
from croplake.cli import main
from croplake.conf import MaintainConf
from croplake.locks import writing
from tests.jobs.small_lake import MODEL_ID, PHOTO_A, SmallLake
from tests.jobs.world import rows_of
from tests.unit.test_locks import another_process

NOW = ["--set", "maintain.retention_hours=0"]


def files_of(small: SmallLake, table: t.Table) -> set[str]:
    found = storage.files_below(small.lake.path(table))
    return {file.path for file in found if file.path.endswith(".parquet") and file.path[0] != "_"}


def versions(small: SmallLake) -> dict[str, int]:
    return {info.name: info.version for info in small.lake.reader.tables()}


def rebuild_examples(small: SmallLake) -> None:
    """Other examples take the place of those that the model was trained on."""
    small.put(t.EXAMPLES, small.example("b1"))


@contextmanager
def running(small: SmallLake, run_id: str, **reads: int) -> Iterator[None]:
    """A job that reads versions of tables, in this process."""
    run = small.run(run_id, "build_examples", outcome="running", ended_at=None, tables_read=reads)
    with writing(str(small.folder), (), run_id=run_id, job="build_examples"):
        small.add(t.RUNS, run)
        yield


def maintain(small: SmallLake, *arguments: str) -> int:
    return main(["lake", "maintain", "--conf", small.conf, *NOW, *arguments])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    return " ".join((printed.out + printed.err).split())


def test_small_files_become_one_a_partition_and_rows_stay_as_they_are(small: SmallLake) -> None:
    small.add(t.EXAMPLES, small.example("b1", example_id="0" * 32))
    before = rows_of(small.settings, "crops")
    examples = files_of(small, t.EXAMPLES)
    assert maintain(small) == 0
    parents = [Path(path).parent.name for path in files_of(small, t.CROPS)]
    assert sorted(parents) == ["has_crop=false", "has_crop=true"]
    after = rows_of(small.settings, "crops")
    assert sorted(after, key=str) == sorted(before, key=str)
    assert files_of(small, t.EXAMPLES) == examples
    (run,) = [row for row in rows_of(small.settings, "runs") if row[t.JOB] == "maintain"]
    assert run[t.OUTCOME] == "done"
    assert dict(run[t.COUNTS])["crops: files removed"] == 2
    assert versions(small)["crops"] == 2  # the compaction's; a vacuum is no version


@pytest.mark.full
def test_a_second_maintain_finds_nothing_to_do_and_commits_nothing(small: SmallLake) -> None:
    assert maintain(small) == 0
    before = versions(small)
    assert maintain(small) == 0
    after = versions(small)
    assert {name for name in after if after[name] != before[name]} == {"runs"}


def test_only_small_files_are_put_together_and_not_beyond_the_greatest_size() -> None:
    conf = MaintainConf(small_file_bytes=100, max_file_bytes=200)
    sizes = {"p=1/a": 90, "p=1/b": 80, "p=1/c": 70, "p=1/large": 100, "p=2/d": 10, "p=3/e": 99}
    plan = plan_compaction(sizes, conf)
    assert (plan.num_before, plan.bytes_before) == (2, 150)
    assert plan_compaction(sizes | {"p=2/f": 20}, conf).num_before == 4


def test_a_large_file_is_never_rewritten(small: SmallLake) -> None:
    sizes = small.lake.reader.file_sizes("crops")
    largest = max(sizes, key=lambda path: sizes[path])
    limit = ["--set", f"maintain.small_file_bytes={sizes[largest]}"]
    small.add(t.CROPS, small.crop("d1", attempt=2), small.crop("d1", attempt=3))
    assert maintain(small, *limit) == 0
    assert largest in small.lake.reader.file_sizes("crops")
    assert len(small.lake.reader.file_sizes("crops")) == 3


@pytest.mark.full
def test_a_dry_run_shows_the_same_and_does_nothing(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    rebuild_examples(small)
    storage.remove(f"{small.folder}/models/{MODEL_ID}")
    before = {path.relative_to(small.folder) for path in small.folder.rglob("*")}
    counts = versions(small)
    assert maintain(small, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "maintain: what would be done in" in shown
    assert {path.relative_to(small.folder) for path in small.folder.rglob("*")} == before
    assert versions(small) == counts
    assert maintain(small) == 0
    done = capsys.readouterr().out
    # Small files, what they became, MiB, files removed.
    assert row_of(shown, "examples")[:4] == ["0", "", "0.0", "4"]
    assert row_of(done, "examples")[:4] == ["0", "", "0.0", "4"]
    assert row_of(shown, "crops")[:4] == ["2", "", "0.0", "0"]
    assert row_of(done, "crops")[:4] == ["2", "1", "0.0", "2"]


def row_of(text: str, table: str) -> list[str]:
    """The numbers printed for a table."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"│ {table} ")]
    return [part.strip() for part in line.split("│")[2:]]


def test_the_version_a_model_was_trained_on_keeps_its_files_until_the_model_goes(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on = rows_of_version(small, t.EXAMPLES, 1)
    rebuild_examples(small)
    assert maintain(small) == 0
    assert f"examples version 1 is kept for model {MODEL_ID}" in said(capsys)
    assert rows_of_version(small, t.EXAMPLES, 1) == trained_on
    storage.remove(f"{small.folder}/models/{MODEL_ID}")
    assert maintain(small) == 0
    assert len(files_of(small, t.EXAMPLES)) == 1


def test_an_old_file_beside_pinned_ones_goes_alone(small: SmallLake) -> None:
    small.add(t.EXAMPLES, small.example("a2", "pears", example_id="0" * 32))
    rebuild_examples(small)
    pinned = set(small.lake.reader.file_sizes("examples", version=1))
    current = set(small.lake.reader.file_sizes("examples"))
    assert len(files_of(small, t.EXAMPLES) - pinned - current) == 1
    assert maintain(small) == 0
    assert files_of(small, t.EXAMPLES) == pinned | current


def rows_of_version(small: SmallLake, table: t.Table, version: int) -> list[str]:
    rows = small.lake.reader.dataset(table.name, version=version).to_table().to_pylist()
    return sorted(map(str, rows))


def test_the_version_a_running_job_reads_keeps_its_files_until_it_has_ended(
    small: SmallLake,
) -> None:
    read = rows_of_version(small, t.CROPS, 0)
    with running(small, "r7", crops=0):
        assert maintain(small) == 0
        assert rows_of_version(small, t.CROPS, 0) == read
        assert len(files_of(small, t.CROPS)) == 3
    assert maintain(small) == 0
    assert len(files_of(small, t.CROPS)) == 2


def test_what_is_younger_than_the_retention_stays(small: SmallLake) -> None:
    assert main(["lake", "maintain", "--conf", small.conf]) == 0
    assert len(small.lake.reader.file_sizes("crops")) == 2
    assert len(files_of(small, t.CROPS)) == 4


def test_the_retention_is_that_of_the_settings_not_deltas(small: SmallLake) -> None:
    """Files that left the table two hours ago, under a retention of one and of three."""
    rebuild_examples(small)
    storage.remove(f"{small.folder}/models/{MODEL_ID}")
    gone = files_of(small, t.EXAMPLES) - set(small.lake.reader.file_sizes("examples"))
    orphan = small.folder / "examples" / "dataset=fruit" / "split=train" / "killed.parquet"
    orphan.write_bytes(b"half")
    two_hours_ago = time.time() - 7200
    os.utime(orphan, (two_hours_ago, two_hours_ago))
    for hours, left in ((3, {*gone, "killed"}), (1, gone)):
        hours_set = ["--set", f"maintain.retention_hours={hours}"]
        assert main(["lake", "maintain", "--conf", small.conf, *hours_set]) == 0
        assert orphan.exists() == ("killed" in left)
        assert files_of(small, t.EXAMPLES) >= gone


def test_a_held_table_is_left_alone_and_named_when_the_others_are_done(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = files_of(small, t.CROPS)
    with another_process(small.folder, "r7", "crops"):
        assert maintain(small) == 5
    printed = said(capsys)
    assert "table crops is being written by fetch_crops (run r7, process" in printed
    assert files_of(small, t.CROPS) == crops
    assert len(files_of(small, t.SELECTED_BOXES)) == 2
    assert "│ selected_boxes │" in printed
    assert "│ predictions │" not in printed


def test_a_killed_run_is_named_its_row_ended_and_its_staging_removed(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    small.add(
        t.RUNS,
        small.run("r9", "fetch_crops", outcome="running", ended_at=None, tables_read={"crops": 0}),
    )
    staged = small.folder / "_staging" / "r9" / "part.parquet"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"")
    assert maintain(small) == 0
    assert "fetch_crops (run r9) was killed" in said(capsys)
    assert len(files_of(small, t.CROPS)) == 2
    assert not staged.parent.exists()
    (row,) = [row for row in rows_of(small.settings, "runs") if row[t.RUN_ID] == "r9"]
    assert (row[t.OUTCOME], row[t.ENDED_AT]) == ("killed", None)
    assert find_readers(small.lake).dead == ()


def holding(small: SmallLake, table: t.Table, image_id: str) -> list[str]:
    batch = pa.record_batch([pa.array(sorted(files_of(small, table)))], schema=FILES_SCHEMA)
    folder = small.lake.path(table)
    found = files_with_photos([batch], folder=folder, image_ids=frozenset({image_id}))
    return [path for part in found for path in part.column(0).to_pylist()]


@pytest.mark.full
def test_forgotten_photos_go_whatever_their_age_and_whichever_model_was_trained_on_them(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A]) == 0
    killed = small.folder / "crops" / "part-killed.parquet"
    killed.write_bytes(b"PAR1 and no end")
    assert holding(small, t.CROPS, PHOTO_A)
    assert holding(small, t.EXAMPLES, PHOTO_A)
    capsys.readouterr()
    assert main(["lake", "maintain", "--conf", small.conf]) == 0
    text = f"model {MODEL_ID}: its examples version 1 has lost files, they hold forgotten photos"
    assert text in said(capsys)
    assert holding(small, t.CROPS, PHOTO_A) == []
    assert holding(small, t.EXAMPLES, PHOTO_A) == []
    assert len(rows_of(small.settings, "examples")) == 6
    assert main(["lake", "check", "--conf", small.conf, "--deep"]) == 0


@pytest.mark.full
def test_a_running_job_keeps_forgotten_photos_until_it_has_ended_and_is_named(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(small, "r7", crops=1):
        assert main(["lake", "forget", "--conf", small.conf, "--vacuum", PHOTO_A]) == 3
        assert main(["lake", "maintain", "--conf", small.conf]) == 3
        assert "crops version 1, read by build_examples, running (run r7)" in said(capsys)
        assert holding(small, t.CROPS, PHOTO_A)
        assert holding(small, t.EXAMPLES, PHOTO_A) == []
    assert main(["lake", "maintain", "--conf", small.conf]) == 0
    assert holding(small, t.CROPS, PHOTO_A) == []


def aged_log(small: SmallLake, num_commits: int) -> Path:
    """A table of many commits, all of them of long ago."""
    for number in range(num_commits):
        small.add(t.PREDICTIONS, {t.RUN_ID: f"p{number}", t.PATH: "x.jpg"})
    log = small.folder / "predictions" / "_delta_log"
    long_ago = time.time() - 90 * 86_400
    for second, file in enumerate(sorted(log.iterdir())):  # Delta trusts only a growing time
        os.utime(file, (long_ago + second, long_ago + second))
    return log


def test_old_log_entries_go_but_none_that_a_pinned_version_needs(small: SmallLake) -> None:
    log = aged_log(small, 23)
    everything = {file.name for file in log.iterdir()}
    assert plan_log(small.lake, t.PREDICTIONS, [8], retention_days=30) == ()
    assert plan_log(small.lake, t.PREDICTIONS, [], retention_days=100) == ()
    for pinned, first in (([15], 9), ([], 19)):
        trim_log(
            small.lake,
            t.PREDICTIONS,
            plan_log(small.lake, t.PREDICTIONS, pinned, retention_days=30),
        )
        left = {file.name for file in log.iterdir()}
        gone = {int(name[:20]) for name in everything - left if name[:20].isdigit()}
        assert gone == set(range(first))
        for version in (*pinned, first, 22):
            assert small.lake.read(t.PREDICTIONS, version=version).count() == version + 1
            assert len(rows_of_version(small, t.PREDICTIONS, version)) == version + 1
    small.add(t.PREDICTIONS, {t.RUN_ID: "p23", t.PATH: "x.jpg"})
    assert len(rows_of(small.settings, "predictions")) == 24


@pytest.mark.full
def test_delta_itself_never_cuts_a_log_short(small: SmallLake) -> None:
    """It would at the checkpoint of version 20, up to that of version 10."""
    log = aged_log(small, 12)
    for number in range(12, 21):
        row = small.frame(t.PREDICTIONS, {t.RUN_ID: f"p{number}", t.PATH: "x.jpg"})
        small.lake.append(row, t.PREDICTIONS)
    assert (log / f"{20:020}.checkpoint.parquet").exists()
    assert (log / f"{0:020}.json").exists()


def test_a_version_older_than_deltas_own_retention_can_be_read(small: SmallLake) -> None:
    aged_log(small, 3)
    shutil.copytree(small.folder, small.folder.parent / "copy")  # no cached log
    copy = storage.for_spark(str(small.folder.parent / "copy" / "predictions"))
    read = small.spark.read.format("delta").option("versionAsOf", 1)
    assert read.load(copy).count() == 2
