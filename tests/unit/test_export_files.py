"""No file is half-written, a shard is done once, and a folder holds one export."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError, SettingsError
from croplake.export import placing
from croplake.export.finished import finished_shards
from croplake.export.plan import (
    FORMATS,
    MANIFEST,
    Format,
    Manifest,
    What,
    check_request,
    check_rows,
    num_buckets,
    read_manifest,
)
from croplake.export.rows import KEY, SHARD
from croplake.export.task import marker_path
from tests.unit.export_rows import manifest_of, picture, write

ROWS = [picture(1), picture(2), picture(3, **{SHARD: 1})]


def files_outside_parts(folder: Path) -> list[str]:
    found = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    return sorted(path for path in found if not path.startswith(placing.PARTS))


def test_a_file_is_at_its_place_only_once_it_is_whole(tmp_path: Path) -> None:
    into, place = tmp_path.as_uri(), tmp_path / "a" / "b.bin"
    with placing.whole_file(into, "a/b.bin") as part:
        part.write_bytes(b"half")
        assert not place.exists()
        part.write_bytes(b"whole")
    assert place.read_bytes() == b"whole"
    with suppress(InterruptedError), placing.whole_file(into, "a/b.bin") as part:
        part.write_bytes(b"half")
        raise InterruptedError
    assert place.read_bytes() == b"whole"
    assert list((tmp_path / placing.PARTS).iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_a_write_that_fails_midway_leaves_no_part_and_the_other_shards_go_on(
    format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second picture of the first shard meets a full disk."""
    manifest = manifest_of(ROWS, format)
    with monkeypatch.context() as broken:
        break_writing(broken, format)
        errors = write(ROWS, tmp_path.as_uri(), manifest)
    assert errors[0] is not None
    assert errors[0].startswith("train-000000: ")
    assert "no space left" in errors[0]
    assert errors[1] is None
    assert finished_shards(tmp_path.as_uri(), manifest).keys() == {1}
    assert list((tmp_path / placing.PARTS).iterdir()) == []
    for path in files_outside_parts(tmp_path):
        if path.endswith(".jpg"):  # those that are there are whole
            key = Path(path).stem
            assert (tmp_path / path).read_bytes() == next(
                row["image"] for row in ROWS if row[KEY] == key
            )
        else:
            assert "000000" not in Path(path).name.replace("000000/", "")
            assert "00000-of" not in path
    assert write(ROWS, tmp_path.as_uri(), manifest) == [None, None]
    whole = tmp_path / "again"
    write(ROWS, whole.as_uri(), manifest)
    again = {p: (whole / p).read_bytes() for p in files_outside_parts(whole)}
    assert len(again) >= 4  # two shards and their markers, at the least
    here = {p: (tmp_path / p).read_bytes() for p in files_outside_parts(tmp_path)}
    assert {p: b for p, b in here.items() if not p.startswith("again/")} == again


def break_writing(patch: pytest.MonkeyPatch, format: Format) -> None:
    second = ROWS[1][KEY]
    if format == "webdataset":
        add = tarfile.TarFile.addfile

        def fail(
            tar: tarfile.TarFile, info: tarfile.TarInfo, file: IO[bytes] | None = None
        ) -> None:
            if info.name == f"{second}.jpg":
                raise OSError(28, "no space left")
            add(tar, info, file or io.BytesIO())

        patch.setattr(tarfile.TarFile, "addfile", fail)
    elif format == "tfrecord":
        import tensorflow as tf

        from croplake.export import tfrecord

        example = tfrecord._example

        def refuse(train: object, row: dict[str, object]) -> object:
            if row[KEY] == second:
                raise tf.errors.ResourceExhaustedError(None, None, "no space left")
            return example(train, row)

        patch.setattr(tfrecord, "_example", refuse)
    else:
        write_bytes = Path.write_bytes

        def stop(path: Path, content: bytes) -> int:
            if content == ROWS[1]["image"]:
                write_bytes(path, content[:100])
                raise OSError(28, "no space left")
            return write_bytes(path, content)

        patch.setattr(Path, "write_bytes", stop)


def test_a_shard_that_got_fewer_rows_than_planned_is_a_defect_and_leaves_no_file(
    tmp_path: Path,
) -> None:
    manifest = manifest_of(ROWS, "webdataset")
    with pytest.raises(ValueError, match="train-000000: 1 rows came, 2 were planned"):
        write(ROWS[1:], tmp_path.as_uri(), manifest)
    assert files_outside_parts(tmp_path) == []


def test_a_shard_whose_file_is_gone_or_cut_off_is_not_finished(tmp_path: Path) -> None:
    into, manifest = tmp_path.as_uri(), manifest_of(ROWS, "webdataset")
    write(ROWS, into, manifest)
    found = finished_shards(into, manifest)
    assert found.keys() == {0, 1}
    assert (found[0].rows, found[0].last) == (2, "train-000000.tar")
    with (tmp_path / "train-000000.tar").open("r+b") as file:
        file.truncate(512)
    (tmp_path / "train-000001.tar").unlink()
    assert finished_shards(into, manifest) == {}


def split_apart(into: str, format: Format) -> Manifest:
    """Three shards, two of them of one split and class, all of them written."""
    rows = [*ROWS, picture(4, **{t.SPLIT: "test", SHARD: 2})]
    manifest = manifest_of(rows, format)
    assert write(rows, into, manifest) == [None] * 3
    return manifest


@pytest.mark.parametrize("format", ["folders", "imagefolder"])
def test_a_shard_that_lost_a_picture_or_a_part_of_one_is_not_finished_and_the_others_are(
    format: Format, tmp_path: Path
) -> None:
    into = tmp_path.as_uri()
    manifest = split_apart(into, format)
    assert finished_shards(into, manifest).keys() == {0, 1, 2}
    (third,) = tmp_path.glob(f"train/*/{ROWS[2][KEY]}.jpg")
    # Another file in its place is none of the shard's.
    third.rename(third.with_name(f"{9:032x}.jpg"))
    assert finished_shards(into, manifest).keys() == {0, 2}
    (first,) = tmp_path.glob(f"train/*/{ROWS[0][KEY]}.jpg")
    first.write_bytes(first.read_bytes()[:-1])
    assert finished_shards(into, manifest).keys() == {2}


def test_a_shard_whose_list_of_pictures_or_marker_is_damaged_is_not_finished(
    tmp_path: Path,
) -> None:
    into = tmp_path.as_uri()
    manifest = split_apart(into, "folders")
    lists = tmp_path / "attribution"
    for name, filling in (("test-000000", b"\xff"), ("train-000000", b"\n")):
        size = (lists / f"{name}.csv").stat().st_size
        (lists / f"{name}.csv").write_bytes(filling * size)
    assert finished_shards(into, manifest).keys() == {1}
    (tmp_path / marker_path(manifest.shards[1])).write_bytes(b"{}")
    assert finished_shards(into, manifest) == {}


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    manifest = manifest_of(ROWS, "folders", "Apple", "你好")
    storage.write_bytes(storage.join(tmp_path.as_uri(), MANIFEST), manifest.to_bytes())
    assert read_manifest(tmp_path.as_uri()) == manifest
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_a_folder_with_other_files_is_refused_an_empty_one_is_not(tmp_path: Path) -> None:
    assert read_manifest((tmp_path / "new").as_uri()) is None
    assert read_manifest(tmp_path.as_uri()) is None
    (tmp_path / "thesis.txt").write_text("two years")
    with pytest.raises(InputDataError, match="is not empty, and holds no export of croplake's"):
        read_manifest(tmp_path.as_uri())


def test_a_manifest_of_another_croplake_is_refused(tmp_path: Path) -> None:
    storage.write_bytes(storage.join(tmp_path.as_uri(), MANIFEST), b'{"format": "folders"}')
    with pytest.raises(InputDataError, match=r"manifest.json: is no manifest of this croplake's"):
        read_manifest(tmp_path.as_uri())


def test_one_folder_holds_one_export() -> None:
    found = manifest_of(ROWS, "folders")
    check_request(found, "folders", "examples", "fruit", "d")
    others: list[tuple[Format, What, str]] = [
        ("tfrecord", "examples", "fruit"),
        ("folders", "crops", "fruit"),
        ("folders", "examples", "nuts"),
    ]
    for asked in others:
        with pytest.raises(SettingsError, match="d: holds examples of dataset fruit as folders"):
            check_request(found, *asked, "d")


def test_other_versions_of_the_same_rows_go_on() -> None:
    found = manifest_of(ROWS, "folders")
    check_rows(found, dataclasses.replace(found, versions={"examples": 4}), "d")


OTHER_SHARDS = (dataclasses.replace(manifest_of(ROWS, "folders").shards[0], digest="2"),)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"shards": OTHER_SHARDS, "versions": {"examples": 4}},
            "the rows (examples was at version 3, now it is at 4)",
        ),
        ({"shards": OTHER_SHARDS}, "the rows"),
        ({"recipe_id": "b"}, "fetch.recipe (its id was None, now it is b)"),
        ({"labels": ()}, "the categories, their order or their folders"),
        ({"tables": {"examples": "x"}}, "the tables (others lie at the place of examples)"),
        ({"layout": 7}, "the layout of the files (it was 1, now it is 7)"),
        (
            {"recipe_id": "b", "shards": OTHER_SHARDS},
            "fetch.recipe (its id was None, now it is b); the rows",
        ),
    ],
)
def test_other_pictures_are_refused_and_what_has_changed_is_named(
    changes: dict[str, Any], told: str
) -> None:
    found = manifest_of(ROWS, "folders")
    with pytest.raises(InputDataError) as refused:
        check_rows(found, dataclasses.replace(found, **changes), "d")
    said = str(refused.value)
    assert said.startswith("d: holds examples of dataset fruit as folders; ")
    assert f"one folder cannot hold both: {told}; export into another folder" in said


@pytest.mark.parametrize(
    ("rows", "row_bytes", "min_shards", "num"),
    [
        (1000, 900, 1, 10),
        (1000, 1, 1, 1),
        (1000, 1, 8, 8),
        (3, 1, 8, 3),
        (3, 1e9, 1, 3),
    ],
)
def test_shards_are_as_many_as_keep_each_below_its_size_and_no_more_than_rows(
    rows: int, row_bytes: float, min_shards: int, num: int
) -> None:
    found = num_buckets(rows=rows, row_bytes=row_bytes, shard_bytes=100_000, min_shards=min_shards)
    assert found == num
