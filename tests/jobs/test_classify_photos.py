"""`croplake classify-photos`: from folders, addresses and tables to rows, a page and copies."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.cli import main
from croplake.jobs.entry import main as job_main
from tests.colour_model import write_colour_model
from tests.html_page import Page, parse_page
from tests.jobs.classify import (
    BLUE,
    FILES,
    FOLDERS,
    GREEN,
    NAMES,
    RED,
    SCRIPT,
    Host,
    arguments,
    host,
    jpeg,
    page_of,
)
from tests.jobs.small_lake import SmallLake
from tests.jobs.world import rows_of
from tests.s3 import s3_server


def rows_by_name(small: SmallLake) -> dict[str, dict[str, Any]]:
    rows = rows_of(small.settings, "predictions")
    found = {row[t.PATH].rsplit("/", 1)[-1]: row for row in rows}
    return found


def tree(folder: Path) -> dict[str, bytes]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_folder_of_odd_files_is_classified_shown_and_sorted(
    small: SmallLake,
    colour_model: str,
    album: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    into = tmp_path / "sorted=1 ä%"
    command = [*arguments(small, colour_model, str(album)), "--sort-into", str(into)]
    assert main(command) == 0
    rows = {
        row[t.PATH].removeprefix(f"{album}/"): row for row in rows_of(small.settings, "predictions")
    }
    assert {name: row[t.STATUS] for name, row in rows.items()} == {
        "a=1/photo ä 100%.jpg": "ok",
        "b/photo ä 100%.jpg": "ok",
        "b/new\nline.jpg": "ok",
        f"b/{SCRIPT.replace('/', '_')}.jpg": "ok",
        "b/grey.jpg": "unsure",
        "b/letter.txt": "not_a_photo",
        "b/cut.jpg": "broken_photo",
        "empty/none.jpg": "empty",
    }
    assert rows["b/grey.jpg"][t.CATEGORY] in NAMES
    turned_row = rows["b/new\nline.jpg"]
    assert (turned_row[t.WIDTH_PX], turned_row[t.HEIGHT_PX]) == (30, 40)
    check_csv(small)
    check_page(page_of(small), album)
    check_sorted(into)
    assert [file.name for file in (small.folder / "reports").iterdir() if file.is_dir()] == []
    said = capsys.readouterr().out
    assert "classify_photos: ok 4, " in said
    assert "unsure 1" in said
    assert f"sorted into {into}: 5 photos" in said
    before = {file: file.stat().st_mtime_ns for file in into.rglob("*.jpg")}
    assert main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in into.rglob("*.jpg")} == before
    assert rows_of(small.settings, "predictions")[0].keys() == set(t.PREDICTIONS.columns)


def check_csv(small: SmallLake) -> None:
    (file,) = (small.folder / "predictions_csv").iterdir()
    with file.open(encoding="utf-8", newline="") as content:
        read = {row["path"].rsplit("/", 1)[-1]: row for row in csv.DictReader(content)}
    assert read["grey.jpg"]["status"] == "unsure"
    assert read["grey.jpg"]["category"] in NAMES
    assert float(read["grey.jpg"]["probability"]) < 0.5
    assert len(read) == 7  # of eight photos two have one name


def check_page(page: Page, album: Path) -> None:
    assert page.numbers() == {
        "photos": 8,
        "with a category": 4,
        "unsure": 1,
        "without an answer": 3,
    }
    assert page.counts("Photos by category") == {NAMES[0]: 2, NAMES[1]: 1, NAMES[2]: 1}
    assert page.table("Photos with the status not_a_photo") == [
        [f"{album}/b/letter.txt", "8 bytes that begin with b'no photo'"]
    ]
    assert "licences and authors of these photos are not known" in page.text
    pictures = page.all("img")
    assert len(pictures) == 5
    assert any(p["alt"].startswith("grey.jpg: ") for p in pictures)
    assert {(p["width"], p["height"]) for p in pictures} == {("40", "30"), ("30", "40")}
    assert [script for script in page.all("script") if "taken" in script.text] == []


def check_sorted(into: Path) -> None:
    found = tree(into)
    listed = list(csv.DictReader(io.StringIO(found.pop("not_sorted.csv").decode())))
    assert sorted(row["status"] for row in listed) == ["broken_photo", "empty", "not_a_photo"]
    kept = {content: name for name, content in found.items()}
    assert len(found) == 5
    assert kept[FILES["b/grey.jpg"]] == "unsure/grey.jpg"
    for name, number in (("a=1/photo ä 100%.jpg", 0), ("b/photo ä 100%.jpg", 1)):
        folder, file = kept[FILES[name]].split("/")
        assert folder.startswith(FOLDERS[NAMES[number]])
        assert file.startswith("photo ä 100%-")
    assert kept[FILES["b/new\nline.jpg"]].endswith("/new\nline.jpg")


def test_all_tasks_together_keep_to_a_hosts_budget(
    small: SmallLake, colour_model: str, tmp_path: Path
) -> None:
    into, listed = tmp_path / "sorted", tmp_path / "list.txt"
    with host() as address:
        urls = [f"{address}/red{number}" for number in range(10)]
        odd = [f"{address}/gone.jpg", f"{address}/a%2F..%2fgreen.jpg", "http://[::1", "http:"]
        listed.write_text("\n".join([*urls, *odd, urls[0], f"{tmp_path}/not there.jpg"]))
        command = [*arguments(small, colour_model, f"@{listed}"), "--sort-into", str(into)]
        hosts = "fetch.hosts={127.0.0.1: {transfers: 1}}"
        command += ["--set", hosts, "--set", "fetch.private_hosts=[127.0.0.1]"]
        assert main(command) == 0
    assert Host.most == 1
    statuses = [row[t.STATUS] for row in rows_of(small.settings, "predictions")]
    assert sorted(statuses) == sorted(["ok"] * 11 + ["not_found"] * 2 + ["bad_address"] * 2)
    assert sorted(file.name for file in into.rglob("*.jpg")) == sorted(
        ["green.jpg", *(f"red{number}.jpg" for number in range(10))]
    )


def test_a_network_without_an_answer_leaves_a_page_that_says_so(
    small: SmallLake, album: Path, tmp_path: Path
) -> None:
    broken = write_colour_model(tmp_path / "nan", weight=float("nan"))
    out = tmp_path / "page ä.html"
    command = arguments(small, f"{broken}/model.keras", f"{album}/a=1")
    assert job_main("classify_photos", [*command[1:], "--out", str(out)]) == 0
    page = parse_page(out.read_text(encoding="utf-8"))
    assert page.numbers()["without an answer"] == 1
    assert "not_finite, 1 photo" in page.text
    assert "There is no photo to show." in page.text
    assert not list((small.folder / "reports").glob("*.html"))


def test_what_cannot_be_is_refused_before_the_work(
    small: SmallLake,
    colour_model: str,
    album: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "void").mkdir()
    command = arguments(small, colour_model, str(album))
    for place, said in (
        (["--sort-into", str(file)], f"--sort-into {file}: is a file"),
        (["--sort-into", str(file / "below")], f"--sort-into {file}/below: cannot be written"),
        (["--sort-into", str(album / "sorted")], f"{album} stands for what is copied there"),
        (["--sort-into", f"{small.folder}/sorted"], "is in the lake; expected a folder elsewhere"),
        (["--out", str(tmp_path)], f"--out {tmp_path}: is a folder"),
    ):
        assert main([*command, *place]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "list.txt").write_text(f"{album}/a=1/../b\n")
    (tmp_path / "link").symlink_to(album)
    for pattern in (f"{album}/*", f"@{tmp_path}/list.txt"):
        place = ["--sort-into", str(tmp_path / "link" / "b")]
        assert main([*arguments(small, colour_model, pattern), *place]) == 2
        said = capsys.readouterr().err
        assert "stands for what is copied there, too, so the next run would sort its copies" in said
    assert main(arguments(small, colour_model, str(tmp_path / "void"))) == 4
    assert "void: no photos there; expected a folder" in capsys.readouterr().err
    assert main(arguments(small, str(tmp_path / "no.keras"), str(album))) == 4
    assert main(arguments(small, colour_model)) == 2
    assert "classify.photos is empty" in capsys.readouterr().err
    for command in (
        [*arguments(small, colour_model, str(album)), "--sort-into", "gs://b/x"],
        [*arguments(small, colour_model, str(album)), "--out", "gs://b/x"],
        arguments(small, colour_model, str(album), csv="gs://b/x"),
        arguments(small, "gs://b/x", str(album)),
        arguments(small, colour_model, "delta:gs://b/x"),
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "croplake: 'gs://b/x" in said
        assert "': files are not kept there; expected a local path, file:///FOLDER, s3a://" in said
    assert not small.lake.exists(t.PREDICTIONS)
    assert not (album / "sorted").exists()


def test_copies_that_cannot_be_written_leave_the_answers_and_a_way_out(
    small: SmallLake,
    colour_model: str,
    album: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "unsure").write_text("a file where a folder should be")
    command = [*arguments(small, colour_model, f"{album}/b/grey.jpg"), "--sort-into", str(into)]
    assert main(command) == 3
    said = capsys.readouterr().err
    assert "1 photos could not be copied, the first" in said
    assert "the same command copies what is missing" in said
    assert len(rows_of(small.settings, "predictions")) == 1
    (into / "unsure").unlink()
    assert main(command) == 0
    assert (into / "unsure" / "grey.jpg").read_bytes() == FILES["b/grey.jpg"]


@pytest.mark.full
@pytest.mark.timeout(600)
def test_photos_of_a_bucket_are_classified_and_sorted_into_another(
    spark: SparkSession,
    small: SmallLake,
    colour_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for bucket in ("photos", "sorted"):
        (tmp_path / "buckets" / bucket).mkdir(parents=True)
    folder = tmp_path / "buckets" / "photos" / "deep"
    folder.mkdir()
    names = {"rot ä#1?.jpg": RED, "grün%20.jpg": GREEN, ".hidden.jpg": BLUE}
    for name, colour in names.items():
        (folder / name).write_bytes(jpeg(colour))
    (folder / "list.txt").write_text("s3a://photos/deep/r*\ns3a://photos/deep/gone.jpg\n")
    with s3_server(tmp_path / "buckets") as environment:
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        # The session's workers were started without these; a new one's know them.
        monkeypatch.setattr(spark.sparkContext, "environment", dict(environment))
        patterns = ("s3a://photos/deep/*.jpg", "@s3a://photos/deep/list.txt")
        command = arguments(small, colour_model, *patterns, min_probability="0")
        assert main([*command, "--sort-into", "s3a://sorted/by=colour"]) == 0
        assert main([*command, "--sort-into", "s3a://sorted/by=colour"]) == 0
        assert main([*command, "--sort-into", "s3a://no-such-bucket/x"]) == 2
    rows = rows_by_name(small)
    assert {name: row[t.STATUS] for name, row in rows.items()} == {
        "rot ä#1?.jpg": "ok",
        "grün%20.jpg": "ok",
        "gone.jpg": "not_found",
    }
    copies = tree(tmp_path / "buckets" / "sorted" / "by=colour")
    assert sorted(name.rsplit("/", 1)[-1] for name in copies if name.endswith(".jpg")) == [
        "grün_20.jpg",
        "rot ä_1_.jpg",
    ]
    assert "s3a://photos/deep/gone.jpg,not_found" in copies["not_sorted.csv"].decode()
