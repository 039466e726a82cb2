from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from croplake import open_lake
from croplake import tables as t
from croplake.cli import main
from croplake.jobs import way
from croplake.jobs.context import Job, JobContext
from croplake.jobs.entry import (
    ASIDE_SUMMARIES,
    COMMAND_SUMMARIES,
    EXPORT,
    JOB_SUMMARIES,
    LOOK_SUMMARIES,
)
from tests.jobs.conftest import WholeWay
from tests.jobs.world import outside_environment

HOLDER = """
import sys
from croplake.locks import writing
with writing(sys.argv[1], ("selected_boxes",), run_id="r1", job="select_boxes"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(whole_way: WholeWay, tmp_path: Path) -> Path:
    """A copy of the whole way's lake."""
    return Path(shutil.copytree(whole_way.settings.lake.root, tmp_path / "lake"))


@pytest.fixture
def conf(whole_way: WholeWay, root: Path) -> str:
    """Settings of the copy, as a file."""
    values = whole_way.settings.model_dump(mode="json")
    values["lake"]["root"] = str(root)
    file = root.parent / "conf.yaml"
    file.write_text(json.dumps(values))
    return str(file)


@contextmanager
def held_by_another_process(root: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def break_off(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """Lets a job end with an exception."""

    def run(context: JobContext) -> None:
        raise error

    jobs = tuple(Job(**{**vars(job), "run": run}) if job.name == name else job for job in way.JOBS)
    monkeypatch.setattr(way, "JOBS", jobs)


def test_done_is_exit_code_0_and_set_overrides_any_setting(
    spark: SparkSession, conf: str, root: Path
) -> None:
    changes = ["--set", "dataset.max_boxes_per_category=2", "--set", "dataset.name=two"]
    assert main(["select-boxes", "--conf", conf, *changes]) == 0
    selected = open_lake(str(root)).dataset("selected_boxes")
    is_kept = (pc.field(t.DATASET) == "two") & pc.field(t.REJECT_REASON).is_null()
    assert selected.count_rows(filter=is_kept) == 20


def test_a_wrong_setting_is_exit_code_2_before_spark_starts(
    conf: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("croplake.session.spark_session", None)
    assert main(["fetch-crops", "--conf", conf, "--set", "fetch.photo_per_task=3"]) == 2
    said = capsys.readouterr().err
    assert "--set fetch.photo_per_task" in said
    assert "photos_per_task" in said
    assert main(["fetch-crops", "--conf", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: cannot be read" in capsys.readouterr().err


def test_a_wrong_argument_is_exit_code_2() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fetch-crops", "--config", "x"])
    assert stopped.value.code == 2


def test_an_unknown_class_is_exit_code_2(
    spark: SparkSession, conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select-boxes", "--conf", conf, "--set", "dataset.classes=[Boots]"]) == 2
    assert 'no class matches "Boots"; did you mean: Boot' in capsys.readouterr().err


def test_a_run_that_breaks_off_is_exit_code_3(
    spark: SparkSession,
    conf: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_off(monkeypatch, "fetch_crops", KeyboardInterrupt())
    assert main(["fetch-crops", "--conf", conf]) == 3
    assert "the same command goes on from there" in capsys.readouterr().err


def test_bad_input_is_exit_code_4(
    spark: SparkSession, conf: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["select-boxes", "--conf", conf, "--set", f"lake.root={tmp_path}/none"]) == 4
    assert "has no table classes" in capsys.readouterr().err


def test_a_held_table_is_exit_code_5_and_a_dead_holder_holds_nothing(
    spark: SparkSession, conf: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_by_another_process(root) as holder:
        assert main(["select-boxes", "--conf", conf]) == 5
        said = capsys.readouterr().err
        assert "table selected_boxes is being written by select_boxes (run r1, process" in said
        assert str(holder.pid) in said
    assert main(["select-boxes", "--conf", conf]) == 0


def test_lake_tables_lists_every_table_as_json_and_nothing_else(
    conf: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lake", "tables", "--conf", conf, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    not_of_the_way = (t.EMBEDDINGS, t.FORGOTTEN_PHOTOS)
    written = [table.name for table in t.ALL_TABLES if table not in not_of_the_way]
    assert [entry["name"] for entry in found] == written
    for entry in found:
        assert list(entry) == ["name", "path", "version", "rows", "bytes", "changed_at"]
        assert entry["path"] == f"file://{root}/{entry['name']}"
        assert (entry["bytes"] > 0) == (entry["rows"] > 0)
    assert main(["lake", "tables", "--conf", conf]) == 0
    assert "examples" in capsys.readouterr().out


def test_a_lake_without_tables_is_an_empty_list(
    conf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = ["--conf", conf, "--set", f"lake.root={tmp_path}/empty"]
    assert main(["lake", "tables", "--json", *empty]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_every_job_has_a_spark_submit_entry_and_a_command() -> None:
    names = [job.name for job in way.JOBS]
    assert [name.replace("_", "-") for name in names] == list(JOB_SUMMARIES)
    aside = [job.name for job in way.ASIDE]
    assert [name.replace("_", "-") for name in aside] == list(ASIDE_SUMMARIES)
    looks = [name.replace("_", "-") for name in way.LOOKS]
    assert looks == list(LOOK_SUMMARIES)
    export = EXPORT.replace("-", "_")
    assert {file.stem for file in Path("jobs").glob("*.py")} == {*names, *aside, *way.LOOKS, export}
    assert list(COMMAND_SUMMARIES) == [
        *JOB_SUMMARIES,
        *ASIDE_SUMMARIES,
        *LOOK_SUMMARIES,
        EXPORT,
    ]


@pytest.mark.full
def test_spark_submit_runs_a_job_in_a_process_of_its_own(conf: str, root: Path) -> None:
    command = ["spark-submit", "--master", "local[1]", "jobs/select_boxes.py", "--conf", conf]
    overrides = ["--set", "dataset.name=submitted", "--set", "dataset.classes=[Boat]"]
    answer = subprocess.run(
        [*command, *overrides], env=outside_environment(), capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert "select_boxes: boxes" in answer.stdout
    assert "Exception" not in answer.stderr
    assert (root / "selected_boxes" / "dataset=submitted").is_dir()


@pytest.mark.full
def test_spark_submit_hands_the_exit_code_on(conf: str, tmp_path: Path) -> None:
    command = ["spark-submit", "--master", "local[1]", "jobs/fetch_crops.py", "--conf", conf]
    answer = subprocess.run(
        [*command, "--set", f"lake.root={tmp_path}/none"],
        env=outside_environment(),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 4, answer.stderr
    # spark-submit passes both of a Python program's streams on as standard output.
    assert "the lake has no table selected_boxes" in answer.stdout


def test_without_java_one_line_says_what_is_needed(
    conf: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    assert main(["select-boxes", "--conf", conf]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Java 17" in said
