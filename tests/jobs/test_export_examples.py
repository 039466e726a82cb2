"""Datasets taken away, as the libraries that they are for read them."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from croplake import open_lake
from croplake import tables as t
from croplake.cli import main
from croplake.export.placing import place_bytes
from croplake.export.plan import FORMATS
from croplake.jobs import export_examples
from croplake.jobs.entry import main as job_main
from croplake.jobs.fetch_plan import recipe_of
from tests.jobs.exports import export, tree
from tests.jobs.small_lake import PHOTO_A, SmallLake, jpeg_of
from tests.jobs.world import rows_of

READERS = Path("build/readers/bin/python")
Row = dict[str, Any]


@pytest.fixture(scope="module")
def exports(first_odd: SmallLake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The lake's fruit in every format, each in several shards."""
    folder = tmp_path_factory.mktemp("exports")
    for format in FORMATS:
        assert export(first_odd, format, folder / format, "--set", "export.min_shards=2") == 0
    return {format: folder / format for format in FORMATS}


def examples(small: SmallLake) -> dict[str, Row]:
    """What must be in every export: example id to example."""
    rows = rows_of(small.settings, "examples")
    return {
        row[t.EXAMPLE_ID]: row
        for row in rows
        if row[t.DATASET] == "fruit" and row[t.SPLIT] != t.REJECTED_SPLIT
    }


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_keras_reads_class_folders_and_numbers_classes_as_the_lake_does(
    first_odd: SmallLake, exports: Mapping[str, Path]
) -> None:
    import keras
    import numpy as np
    import tensorflow as tf

    expected = examples(first_odd)
    for split in t.SPLITS:
        read = keras.utils.image_dataset_from_directory(
            exports["folders"] / split, shuffle=False, batch_size=None, image_size=(20, 30)
        )
        assert read.class_names == ["Apple", "Pear"]  # in the test split, too, which has no pear
        of_split = {key: row for key, row in expected.items() if row[t.SPLIT] == split}
        labels = {
            Path(path).stem: label for path, (_, label) in zip(read.file_paths, read, strict=True)
        }
        assert {key: int(label) for key, label in labels.items()} == {
            key: row[t.LABEL_INDEX] for key, row in of_split.items()
        }
        for path, (pixels, _) in zip(read.file_paths, read, strict=True):
            jpeg = Path(path).read_bytes()
            assert jpeg == of_split[Path(path).stem][t.IMAGE]
            assert np.array_equal(pixels, tf.io.decode_jpeg(jpeg))


def test_each_picture_in_a_class_folder_has_its_line_of_credit(
    first_odd: SmallLake, exports: Mapping[str, Path]
) -> None:
    found: dict[str, dict[str, str]] = {}
    for path in exports["folders"].glob("attribution/*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            found |= {row["file"]: row for row in csv.DictReader(file)}
    for key, row in examples(first_odd).items():
        line = found.pop(f"{row[t.SPLIT]}/{row[t.CATEGORY]}/{key}.jpg")
        assert {name: line[name] for name in t.ATTRIBUTION} == {
            name: row[name] or "" for name in t.ATTRIBUTION
        }
        assert (line[t.IMAGE_ID], line[t.BOX_ID]) == (row[t.IMAGE_ID], row[t.BOX_ID])
    assert found == {}


def test_tf_data_reads_every_record(first_odd: SmallLake, exports: Mapping[str, Path]) -> None:
    import tensorflow as tf

    folder = exports["tfrecord"]
    features = {
        name: tf.io.FixedLenFeature([], kind)
        for name, kind in json.loads((folder / "features.json").read_text()).items()
    }
    expected = examples(first_odd)
    for split in t.SPLITS:
        records = tf.data.TFRecordDataset(sorted(map(str, folder.glob(f"{split}-*.tfrecord"))))
        for record in records.map(lambda record: tf.io.parse_single_example(record, features)):
            row = expected.pop(record["image/source_id"].numpy().decode())
            assert row[t.SPLIT] == split
            assert record["image/encoded"].numpy() == row[t.IMAGE]
            assert tf.io.decode_jpeg(record["image/encoded"]).shape == (20, 30, 3)
            assert record["image/class/label"].numpy() == row[t.LABEL_INDEX]
            assert record["image/class/text"].numpy().decode() == row[t.CATEGORY]
            for name in t.ATTRIBUTION:
                assert record[f"image/{name}"].numpy().decode() == (row[name] or "")
    assert expected == {}


@pytest.fixture(scope="module")
def seen_elsewhere(
    exports: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, list[Row]]]:
    assert READERS.exists(), "make test makes the readers' environment in build/readers"
    cache = tmp_path_factory.mktemp("cache")
    script = Path(__file__).parents[1] / "readers" / "read_exports.py"
    answer = subprocess.run(
        [READERS, script, exports["webdataset"], exports["imagefolder"], cache],
        capture_output=True,
        text=True,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "PATH": ""},
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, dict[str, list[Row]]] = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize("tool", ["webdataset", "datasets"])
def test_todays_tools_find_every_picture_with_its_label_and_credit(
    tool: str, seen_elsewhere: dict[str, dict[str, list[Row]]], first_odd: SmallLake
) -> None:
    none, label = ("(none)", "label") if tool == "datasets" else (None, "category")
    expected = examples(first_odd)
    assert set(seen_elsewhere[tool]) == set(t.SPLITS)
    for split, found in seen_elsewhere[tool].items():
        for seen in found:
            row = expected.pop(seen["key"])
            assert row[t.SPLIT] == split
            assert seen["sha256"] == sha256(row[t.IMAGE])
            assert (seen[label], seen[t.LABEL_INDEX]) == (row[t.CATEGORY], row[t.LABEL_INDEX])
            for name in (*t.ATTRIBUTION, t.IMAGE_ID, t.BOX_ID, t.SUBSET, *t.FLAGS):
                assert seen[name] == (none if row[name] is None else row[name]), name
    assert expected == {}


def test_crops_are_those_of_kept_boxes_in_the_subsets_of_open_images(
    odd: SmallLake, tmp_path: Path
) -> None:
    odd.lake.update(t.SELECTED_BOXES, "box_id = 'b2'", {t.REJECT_REASON: "'too_small'"})
    odd.add(t.CROPS, odd.crop("a1") | {t.RECIPE_ID: "another"}, odd.crop("a1") | {t.BOX_ID: "x"})
    into = tmp_path / "crops"
    assert export(odd, "folders", into, "--of", "crops") == 0
    pictures = {path: content for path, content in tree(into).items() if path.endswith(".jpg")}
    assert pictures == {
        f"{split}/{category}/{box_id}.jpg": odd.crop(box_id)[t.JPEG]
        for box_id, split, category in (
            ("a1", "train", "Apple"),
            ("a2", "train", "Pear"),
            ("b1", "train", "Apple"),
            ("c1", "validation", "Apple"),
            ("c2", "validation", "Pear"),
        )
    }


def test_a_finished_export_is_up_to_date_and_a_broken_one_goes_on_with_the_same_bytes(
    first_odd: SmallLake,
    exports: Mapping[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    into = exports["webdataset"]
    before = tree(into)
    stamps = {path: path.stat().st_mtime_ns for path in into.glob("*")}
    assert export(first_odd, "webdataset", into) == 0
    assert "is up to date" in capsys.readouterr().out
    # The same dataset in a later version of the table: another dataset's examples came.
    first_odd.add(t.EXAMPLES, first_odd.example("a2", "pears", **{t.EXAMPLE_ID: "4" * 32}))
    lost = sorted(into.glob("train-*.tar"))[0]
    lost.unlink()
    (into / "__croplake__" / "parts").mkdir()
    (into / "__croplake__" / "parts" / "left by a kill").write_bytes(b"half")
    assert export(first_odd, "webdataset", into) == 0
    assert f"shards written: 1 of {len(list(into.glob('*.tar')))}" in capsys.readouterr().out
    assert tree(into) == before
    for path, stamp in stamps.items():
        if path.suffix == ".tar" and path != lost:
            assert path.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("format", "lost"), [("folders", "train/Apple"), ("imagefolder", "train/000000/*.jpg")]
)
def test_pictures_that_were_removed_come_back_with_the_same_command(
    format: str, lost: str, odd: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "away"
    assert export(odd, format, into) == 0
    whole = tree(into)
    (into / "train" / "mine.jpg").write_bytes(b"of no shard")
    for path in [*into.glob(lost)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert tree(into) != whole
    capsys.readouterr()
    assert export(odd, format, into) == 0
    assert "shards written: 1 of 3" in capsys.readouterr().out  # train's alone
    assert tree(into) == whole | {"train/mine.jpg": b"of no shard"}
    assert export(odd, format, into) == 0
    assert "is up to date" in capsys.readouterr().out


def test_notices_and_class_folders_that_were_removed_come_back_though_all_shards_are_there(
    odd: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "away"
    assert export(odd, "folders", into) == 0
    whole = tree(into)
    for name in ("README.txt", "labels.json", "LICENSES.csv"):
        (into / name).unlink()
    (into / "test" / "Pear").rmdir()  # no picture of the test split is one
    capsys.readouterr()
    assert export(odd, "folders", into) == 0
    assert "is up to date" in capsys.readouterr().out
    assert tree(into) == whole
    assert (into / "test" / "Pear").is_dir()


def test_what_has_changed_or_is_another_export_is_refused_with_a_way_out(
    odd: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "away"
    assert export(odd, "webdataset", into) == 0
    before = tree(into)
    capsys.readouterr()
    assert export(odd, "folders", into) == 2
    said = capsys.readouterr().err
    assert "holds examples of dataset fruit as webdataset, asked for is" in said
    assert "as folders; export into another folder, or remove this one" in said
    odd.lake.update(t.EXAMPLES, f"example_id = '{'1' * 32}'", {t.TITLE: "'2010'"})
    assert export(odd, "webdataset", into) == 4
    assert "the rows (examples was at version" in capsys.readouterr().err
    assert tree(into) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("two years")
    assert export(odd, "webdataset", tmp_path / "full") == 4
    assert "is not empty, and holds no export of croplake's" in capsys.readouterr().err
    assert tree(tmp_path / "full") == {"thesis.txt": b"two years"}
    assert export(odd, "webdataset", tmp_path / "full" / "thesis.txt") == 2
    assert "thesis.txt: is a file; expected a folder" in capsys.readouterr().err
    assert export(odd, "webdataset", tmp_path / "full" / "thesis.txt" / "below") == 2
    assert "below: cannot be written: " in (said := capsys.readouterr().err)
    assert "expected a folder, new or there, that this user may write" in said
    assert export(odd, "webdataset", odd.folder / "exports") == 2
    assert "is in the lake; expected a folder elsewhere" in capsys.readouterr().err
    assert export(odd, "webdataset", tmp_path / "none", "--set", "dataset.name=nuts") == 4
    assert "no examples of dataset nuts; build_examples makes" in capsys.readouterr().err
    classes = "dataset.categories={Fruit: [Apple, Pear]}"
    only = ["--set", classes, "--set", "dataset.classes=[]"]
    assert export(odd, "webdataset", tmp_path / "none", *only) == 4
    assert "run select_boxes and build_examples with these settings" in capsys.readouterr().err


@pytest.mark.full
def test_crops_of_another_recipe_are_refused_and_never_complete_an_export(
    odd: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = odd.settings.fetch.recipe.model_copy(update={"jpeg_quality": 60})
    first = recipe_of(odd.settings.fetch).recipe_id
    second = recipe_of(odd.settings.fetch.model_copy(update={"recipe": recipe})).recipe_id
    boxes = ("a1", "a2", "b1", "b2", "c1", "c2")
    # Alike but for the bytes: nothing else that goes along tells the two.
    odd.add(
        t.CROPS,
        *(odd.crop(box) | {t.RECIPE_ID: second, t.JPEG: jpeg_of(f"other {box}")} for box in boxes),
    )
    into = tmp_path / "crops"
    assert export(odd, "webdataset", into, "--of", "crops") == 0
    whole = tree(into)
    (into / "train-000000.tar").unlink()
    half = tree(into)
    other = ["--of", "crops", "--set", "fetch.recipe.jpeg_quality=60"]
    capsys.readouterr()
    assert export(odd, "webdataset", into, *other) == 4
    said = capsys.readouterr().err
    assert f"fetch.recipe (its id was {first}, now it is {second})" in said
    assert "version" not in said
    assert tree(into) == half
    assert export(odd, "webdataset", into, "--of", "crops") == 0
    assert tree(into) == whole
    # Examples keep the recipe they were built with, whatever the settings say today.
    assert export(odd, "webdataset", tmp_path / "examples", *other[2:]) == 0
    assert export(odd, "webdataset", tmp_path / "examples") == 0


@pytest.mark.full
def test_an_export_is_recorded_with_the_versions_it_read_and_forget_names_it(
    odd: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "a=b äway 100%"
    arguments = ["--conf", odd.conf, "--format", "imagefolder", "--into", str(into)]
    assert job_main("export_examples", arguments) == 0
    run = max(rows_of(odd.settings, "runs"), key=lambda row: row[t.STARTED_AT])
    lake = open_lake(odd.settings.lake.root)
    assert dict(run[t.TABLES_READ]) == {
        name: lake.version(name) for name in ("classes", "examples")
    }
    assert (run[t.JOB], run[t.OUTCOME]) == ("export_examples", "done")
    assert (run[t.DATASET], dict(run[t.TABLES_WRITTEN])) == ("fruit", {})
    assert dict(run[t.COUNTS]) == {"train": 5, "validation": 2, "test": 1}
    assert run[t.DETAIL] == f"examples as imagefolder into {into.as_uri()}"
    assert len(list(into.glob("*/*/*.jpg"))) == 8
    assert export(odd, "folders", into) == 2
    capsys.readouterr()
    for photo, is_named in ((PHOTO_A, True), ("f" * 16, False)):
        assert main(["lake", "forget", "--conf", odd.conf, photo]) == 0
        named = [line for line in capsys.readouterr().out.splitlines() if into.as_uri() in line]
        # What was refused is nobody's to remove.
        told = f"was exported, may show them, is yours to remove: {run[t.DETAIL]}"
        assert named == ([told] if is_named else [])


def test_an_export_is_in_runs_before_its_first_file_so_that_a_kill_does_not_hide_it(
    odd: SmallLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "away"
    seen: list[Row] = []

    def look_and_place(address: str, path: str, content: bytes) -> None:
        seen.append(max(rows_of(odd.settings, "runs"), key=lambda row: row[t.STARTED_AT]))
        assert tree(into).keys() == {"__croplake__/writable"}
        place_bytes(address, path, content)

    monkeypatch.setattr(export_examples, "place_bytes", look_and_place)
    assert export(odd, "webdataset", into) == 0
    (row,) = seen
    assert row[t.OUTCOME] == "running"
    assert row[t.DETAIL] == f"examples as webdataset into {into.as_uri()}"
