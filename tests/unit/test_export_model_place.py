"""Where models are exported to: nobody else's files are touched, and nothing stays half done."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from croplake import open_lake, storage
from croplake import tables as t
from croplake.cli import main
from croplake.conf import Settings
from croplake.errors import InputDataError
from croplake.model_export import entry
from croplake.model_export.formats import PLACES, parse_formats
from croplake.models import find_model
from tests.jobs.world import hand_made_settings
from tests.model_lake import ENDED_AT, MODEL_ID, add_rows, training

OTHER = "fruit-r5"
FILES = {
    "keras": ["model.keras"],
    "h5": ["model.h5"],
    "savedmodel": ["savedmodel/saved_model.pb", "savedmodel/variables/variables.index"],
    "tflite": ["model.tflite"],
}


def add_model(settings: Settings, model_id: str, **changes: Any) -> Path:  # noqa: ANN401
    add_rows(settings.lake.root, t.RUNS, training(model_id, **changes))
    folder = Path(settings.lake.root, "models", model_id)
    folder.mkdir(parents=True)
    folder.joinpath("model.keras").write_text(f"weights of {model_id}")
    folder.joinpath("labels.json").write_text('["Apple", "Pear"]')
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = hand_made_settings(tmp_path)
    add_model(settings, MODEL_ID)
    return settings


@pytest.fixture(autouse=True)
def _no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that writes, without the network: each file holds the model's bytes."""

    def write(
        module: str, job: Mapping[str, Any], *, environment: Mapping[str, str]
    ) -> dict[str, Any]:
        for format in job["formats"]:
            for path in FILES[format]:
                file = Path(job["folder"], path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(Path(job["file"]).read_bytes())
        differences = dict.fromkeys(job["formats"], 0.0)
        return {"side_px": 64, "differences": differences, "reasons": {}, "made_with": {}}

    monkeypatch.setattr(entry, "ask", write)


def export(settings: Settings, into: Path | str, *arguments: str) -> int:
    folder = Path(settings.lake.root).parent
    return main(["export-model", "--conf", f"{folder}/conf.yaml", "--into", str(into), *arguments])


def tree(into: Path) -> set[str]:
    paths = {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()}
    return {path for path in paths if not path.startswith("__croplake__")}


BESIDE = {"labels.json", "croplake.json", "README.txt"}
ALL = BESIDE | {path for paths in FILES.values() for path in paths}


def test_a_later_export_replaces_an_earlier_one_and_leaves_what_others_put_beside(
    settings: Settings, tmp_path: Path
) -> None:
    into = tmp_path / "a way ü 100%"
    assert export(settings, into) == 0
    assert tree(into) == ALL
    assert (into / "savedmodel" / "saved_model.pb").read_text() == f"weights of {MODEL_ID}"
    (into / "notes.txt").write_text("mine")
    (into / "savedmodel" / "mine.txt").write_text("mine")
    add_model(settings, OTHER, **{t.ENDED_AT: ENDED_AT + timedelta(hours=1)})
    assert export(settings, into, "--format", "keras,tflite") == 0
    assert tree(into) == {
        *BESIDE,
        "model.keras",
        "model.tflite",
        "notes.txt",
        "savedmodel/mine.txt",
    }
    (into / "savedmodel" / "mine.txt").unlink()
    assert export(settings, into) == 0
    assert export(settings, into, "--format", "keras") == 0
    assert not (into / "savedmodel").exists()
    assert (into / "model.keras").read_text() == f"weights of {OTHER}"
    assert json.loads((into / "croplake.json").read_text())["model_id"] == OTHER
    assert not list((into / "__croplake__").rglob("parts/*"))


def test_strangers_files_are_refused_before_the_work(
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entry, "ask", None)  # the work would end in a TypeError
    into = tmp_path / "away"
    into.mkdir()
    (into / "holiday.jpg").write_text("x")
    assert export(settings, into) == 4
    assert "is not empty, and holds no exported model" in capsys.readouterr().err
    assert tree(into) == {"holiday.jpg"}


@pytest.mark.parametrize("strange", ["model.h5", "savedmodel/variables/mine"])
def test_a_strangers_file_at_the_place_of_a_new_one_stays(
    strange: str, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "away"
    assert export(settings, into, "--format", "keras") == 0
    (into / strange).parent.mkdir(parents=True, exist_ok=True)
    (into / strange).write_text("mine")
    assert export(settings, into) == 4
    assert f"{strange} was not written by croplake; it stays" in capsys.readouterr().err
    assert (into / strange).read_text() == "mine"
    assert export(settings, into, "--format", "keras") == 0


def test_places_that_cannot_be_are_exit_code_2(
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entry, "ask", None)
    (tmp_path / "file").write_text("x")
    for into, told in (
        (tmp_path / "file", "is a file"),
        (Path(settings.lake.root) / "models" / "x", "is in the lake"),
        (tmp_path / "file" / "below", "cannot be written"),
    ):
        assert export(settings, into) == 2, into
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "exit_code"), [(errno.EACCES, 2), (errno.EROFS, 2), (errno.ENOSPC, 3)]
)
def test_a_place_that_cannot_be_written_is_found_before_the_work(
    number: int,
    exit_code: int,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(address: str, content: bytes) -> None:
        raise OSError(number, os.strerror(number), address)

    monkeypatch.setattr(storage, "write_bytes", refuse)
    monkeypatch.setattr(entry, "ask", None)
    assert export(settings, tmp_path / "away") == exit_code
    assert f"away: cannot be written: [Errno {number}]" in capsys.readouterr().err


def test_a_disk_that_fills_up_is_exit_code_3_and_leaves_no_card_and_no_half_file(
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    into = tmp_path / "away"
    assert export(settings, into) == 0
    copy = shutil.copyfile

    def fill(source: Path, to: Path) -> None:
        if source.name == "model.tflite":
            Path(to).write_bytes(source.read_bytes()[:3])
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, to)

    monkeypatch.setattr(shutil, "copyfile", fill)
    add_model(settings, OTHER, **{t.ENDED_AT: ENDED_AT + timedelta(hours=1)})
    assert export(settings, into) == 3
    assert "No space left on device; croplake.json comes last" in capsys.readouterr().err
    assert not (into / "croplake.json").exists()
    assert not (into / "savedmodel" / "saved_model.pb").exists()
    assert (into / "model.tflite").read_text() == f"weights of {MODEL_ID}"  # whole, if old
    monkeypatch.undo()
    assert {place for place in PLACES.values() if (into / place).exists()} == set(PLACES.values())


def test_formats_are_named_with_commas_or_one_by_one(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse_formats(["tflite, keras", "h5", "keras"]) == ("keras", "h5", "tflite")
    assert parse_formats([]) == ()
    assert export(settings, tmp_path / "away", "--format", "keras,onnx") == 2
    assert "'onnx' is no format; there are keras, h5" in capsys.readouterr().err


def test_latest_is_the_datasets_newest_and_an_id_is_any_of_the_lake(settings: Settings) -> None:
    later = {t.ENDED_AT: ENDED_AT + timedelta(hours=1)}
    add_model(settings, OTHER, **later)
    add_model(settings, "pears-r6", **{t.DATASET: "pears", t.ENDED_AT: ENDED_AT + timedelta(1)})
    add_rows(settings.lake.root, t.RUNS, training("fruit-r7", **{t.OUTCOME: t.FAILED}))
    lake = open_lake(settings.lake.root)
    assert find_model(lake, "fruit", "latest").model_id == OTHER
    found = find_model(lake, "fruit", "pears-r6")
    assert (found.dataset, found.run[t.TABLES_READ]) == ("pears", {"examples": 0})
    with pytest.raises(
        InputDataError, match=r"no model fruit-r7; there are .*, fruit-r5, pears-r6"
    ):
        find_model(lake, "fruit", "fruit-r7")
    with pytest.raises(InputDataError, match=r"no model of dataset nuts; there are fruit-r4, "):
        find_model(lake, "nuts", "latest")


def test_a_model_whose_file_is_gone_is_named_and_is_not_the_latest(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = {t.ENDED_AT: ENDED_AT + timedelta(hours=1)}
    add_model(settings, OTHER, **later).joinpath("model.keras").unlink()
    assert export(settings, tmp_path / "away", "--model", OTHER) == 4
    said = capsys.readouterr().err
    assert "models/fruit-r5/model.keras: model fruit-r5 was trained, its file is gone" in said
    assert "there are fruit-r4" in said
    assert export(settings, tmp_path / "away") == 0


def test_no_lake_and_a_lake_without_models_say_so(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"lake.root={tmp_path / 'none'}"
    assert export(settings, tmp_path / "away", "--set", nowhere) == 4
    assert "no lake is there" in capsys.readouterr().err
    shutil.rmtree(Path(settings.lake.root, "runs"))
    add_rows(settings.lake.root, t.CLASSES, {t.LABEL_MID: "/m/0"})
    assert export(settings, tmp_path / "away") == 4
    assert "no model of dataset fruit; there is none" in capsys.readouterr().err


def test_a_card_without_examples_or_evaluations_says_what_is_not_known(
    settings: Settings, tmp_path: Path
) -> None:
    assert export(settings, tmp_path / "away") == 0
    text = (tmp_path / "away" / "README.txt").read_text()
    assert "Their licences are not known any more" in text
    assert "It was not evaluated." in text
    card = json.loads((tmp_path / "away" / "croplake.json").read_text())
    assert (card["licences"], card["evaluations"], card["history"]) == (None, {}, None)


def test_no_jvm_and_no_tensorflow_in_the_driver(settings: Settings, tmp_path: Path) -> None:
    code = (
        "import sys; from croplake.cli import main; assert main(sys.argv[1:]) == 4;"
        "assert not {'pyspark', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    conf = str(Path(settings.lake.root).parent / "conf.yaml")
    command = [sys.executable, "-c", code, "export-model", "--conf", conf]
    command += ["--model", "none", "--into", str(tmp_path / "away")]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
