"""What each format holds: the same pictures, and all that goes along with each."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from croplake import tables as t
from croplake.export.finished import finished_shards
from croplake.export.notices import write_notices, write_summary
from croplake.export.plan import FORMATS, Format, Manifest
from croplake.export.rows import DETAILS, KEY, SHARD
from tests.unit.export_rows import ODD_TEXT, Row, manifest_of, picture, write

NOTHING_KNOWN = dict.fromkeys((t.LICENSE, t.AUTHOR, t.AUTHOR_URL, t.TITLE, t.LANDING_URL))
ROWS = [
    picture(1),
    picture(2, **NOTHING_KNOWN),
    picture(3, **{t.LABEL_INDEX: 1, t.CATEGORY: "CON", SHARD: 1, t.TITLE: "old\rMac"}),
    picture(4, **{t.LABEL_INDEX: 2, t.CATEGORY: "..", t.SPLIT: "test", SHARD: 2}),
]


def export(rows: list[Row], format: Format, into: Path) -> Manifest:
    manifest = manifest_of(rows, format, "Apple", "CON", "..")
    assert write(rows, into.as_uri(), manifest) == [None] * len(manifest.shards)
    return manifest


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_text(row: Row, names: tuple[str, ...], *, none: str = "") -> dict[str, str]:
    return {name: none if row[name] is None else str(row[name]) for name in names}


def test_class_folders_hold_the_pictures_and_csvs_beside_them_all_the_rest(tmp_path: Path) -> None:
    manifest = export(ROWS, "folders", tmp_path)
    told = [name for name in DETAILS if name != KEY]
    found = [row for file in sorted(tmp_path.glob("attribution/*.csv")) for row in read_csv(file)]
    by_file = {row.pop("file"): row for row in found}
    for row in ROWS:
        path = f"{row[t.SPLIT]}/{manifest.folders[row[t.CATEGORY]]}/{row[KEY]}.jpg"
        assert (tmp_path / path).read_bytes() == row[t.IMAGE]
        assert by_file.pop(path) == as_text(row, tuple(told))
    assert by_file == {}
    assert len(list(tmp_path.glob("*/*/*.jpg"))) == len(ROWS)


def test_imagefolder_has_a_metadata_csv_in_each_folder_of_pictures(tmp_path: Path) -> None:
    export(ROWS, "imagefolder", tmp_path)
    found: dict[str, dict[str, str]] = {}
    for file in tmp_path.glob("*/*/metadata.csv"):
        for line in read_csv(file):
            picture_file = file.parent / line.pop("file_name")
            hexadecimal = picture_file.read_bytes().hex()
            split = file.parent.parent.name
            found[picture_file.stem] = line | {"bytes": hexadecimal, t.SPLIT: split}
    told = tuple(name for name in DETAILS if name not in (KEY, t.SPLIT, t.CATEGORY))
    for row in ROWS:
        expected = as_text(row, told, none="(none)")
        expected |= {"label": row[t.CATEGORY], t.SPLIT: row[t.SPLIT]}
        expected["bytes"] = row[t.IMAGE].hex()
        assert found[row[KEY]] == expected


def test_names_and_titles_that_pandas_takes_for_nothing_stay_texts(tmp_path: Path) -> None:
    rows = [picture(1, **{t.TITLE: "NA", t.AUTHOR: "None"}), picture(2, **{t.TITLE: None})]
    export(rows, "imagefolder", tmp_path)
    (file,) = tmp_path.glob("*/*/metadata.csv")
    found = pd.read_csv(file).set_index("file_name")
    titles = [found.loc[f"{row[KEY]}.jpg", t.TITLE] for row in rows]
    assert titles == ["NA ", "(none)"]
    assert found.loc[f"{rows[0][KEY]}.jpg", t.AUTHOR] == "None "


def test_a_title_may_be_of_any_length(tmp_path: Path) -> None:
    rows = [picture(1, **{t.TITLE: "a" * 200_000})]
    for format in ("folders", "imagefolder"):
        export(rows, format, tmp_path / format)
        manifest = manifest_of(rows, format)
        assert len(finished_shards(str(tmp_path / format), manifest)) == 1


def test_the_members_of_a_picture_are_adjacent_in_a_tar_that_tells_nothing_of_its_maker(
    tmp_path: Path,
) -> None:
    export(ROWS, "webdataset", tmp_path)
    assert [file.name for file in sorted(tmp_path.glob("*.tar"))] == [
        "test-000000.tar",
        "train-000000.tar",
        "train-000001.tar",
    ]
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        members = tar.getmembers()
        content = {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    keys = [row[KEY] for row in ROWS[:2]]
    assert list(content) == [f"{key}.{end}" for key in keys for end in ("jpg", "cls", "json")]
    for row in ROWS[:2]:
        assert content[f"{row[KEY]}.jpg"] == row[t.IMAGE]
        assert content[f"{row[KEY]}.cls"] == b"0"
        assert json.loads(content[f"{row[KEY]}.json"]) == {name: row[name] for name in DETAILS}
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
        (0, 0, 0, "", "", 0o644)
    }


def test_tf_data_reads_the_records_by_the_features_that_are_written_beside_them(
    tmp_path: Path,
) -> None:
    import tensorflow as tf

    manifest = export(ROWS, "tfrecord", tmp_path)
    write_notices(tmp_path.as_uri(), manifest)
    features = {
        name: tf.io.FixedLenFeature([], kind)
        for name, kind in json.loads((tmp_path / "features.json").read_text()).items()
    }
    files = sorted(str(file) for file in tmp_path.glob("*.tfrecord"))
    assert [Path(file).name for file in files] == [
        "test-00000-of-00001.tfrecord",
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]
    found: dict[str, dict[str, Any]] = {}
    for record in tf.data.TFRecordDataset(files):
        parsed = {k: v.numpy() for k, v in tf.io.parse_single_example(record, features).items()}
        found[parsed["image/source_id"].decode()] = parsed
    for row in ROWS:
        parsed = found.pop(row[KEY])
        assert parsed["image/encoded"] == row[t.IMAGE]
        assert parsed["image/format"] == b"jpeg"
        assert (parsed["image/height"], parsed["image/width"]) == (8, 12)
        assert parsed["image/class/label"] == row[t.LABEL_INDEX]
        assert parsed["image/class/text"].decode() == row[t.CATEGORY]
        for name in (*t.ATTRIBUTION, t.BOX_ID, t.IMAGE_ID, t.SUBSET):
            assert parsed[f"image/{name}"].decode() == (row[name] or "")
    assert found == {}


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_rows_give_the_same_files(format: Format, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        export(ROWS, format, folder)
    assert tree(first) == tree(second)


def test_licences_are_counted_and_the_notices_say_where_each_is(tmp_path: Path) -> None:
    into = tmp_path.as_uri()
    manifest = export(ROWS, "folders", tmp_path)
    write_notices(into, manifest)
    counts = {("Apple", "train"): 2, ("CON", "train"): 1, ("..", "test"): 1}
    write_summary(into, manifest, finished_shards(into, manifest).values(), counts)
    address = ROWS[0][t.LICENSE]
    assert read_csv(tmp_path / "LICENSES.csv") == [
        {"license": address, "name": "CC BY 2.0", "pictures": "3"},
        {"license": "", "name": "licence not given", "pictures": "1"},
    ]
    readme = (tmp_path / "README.txt").read_text(encoding="utf-8")
    assert "attribution/<split>-<number>.csv" in readme
    assert "CC BY 4.0" in readme
    assert "which buckets do not keep: make all folders that labels.json names\n" in readme
    labels = json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))
    assert [label["category"] for label in labels] == ["Apple", "CON", ".."]
    assert [(tmp_path / "train" / label["folder"]).exists() for label in labels[:2]] == [True, True]
    summary = json.loads((tmp_path / "__croplake__/summary.json").read_text())
    assert summary["pictures"] == {"train": {"Apple": 2, "CON": 1}, "test": {"..": 1}}
    assert summary["image_bytes"] == sum(len(row[t.IMAGE]) for row in ROWS)


def test_a_strangers_text_is_part_of_no_file_name(tmp_path: Path) -> None:
    for format in FORMATS:
        export(ROWS, format, tmp_path / format)
    names = " ".join(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert "said" in ODD_TEXT
    assert not any(word in names for word in ("said", "你好", "Ann"))


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
