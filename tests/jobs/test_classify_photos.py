"""`croplake classify-photos`: from folders, addresses and tables to rows, a page and copies."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.cli import main
from croplake.jobs.entry import main as job_main
from tests.colour_model import COLOURS, write_colour_model
from tests.html_page import Page, parse_page
from tests.jobs.small_lake import ATTRIBUTION, PHOTO_A, PHOTO_B, SmallLake
from tests.jobs.world import rows_of
from tests.s3 import s3_server

RED, GREEN, BLUE = COLOURS
GREY = (99, 99, 99)
SCRIPT = "<script>document.title='taken'</script>"
NAMES = ("Red & <b>rosy</b>", "unsure", "Grün/Blau 100%")
FOLDERS = {"Red & <b>rosy</b>": "Red & _b_rosy__b-", "unsure": "unsure-", NAMES[2]: "Grün_Blau"}


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30), **options: Any) -> bytes:  # noqa: ANN401
    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, "JPEG", quality=95, **options)
    return target.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(RED, exif=exif)


FILES = {
    "a=1/photo ä 100%.jpg": jpeg(RED),
    "b/photo ä 100%.jpg": jpeg(GREEN),
    "b/new\nline.jpg": turned(),
    f"b/{SCRIPT.replace('/', '_')}.jpg": jpeg(BLUE),
    "b/grey.jpg": jpeg(GREY),
    "b/letter.txt": b"no photo",
    "b/cut.jpg": jpeg(RED)[:-60],
    "b/.hidden.jpg": jpeg(RED),
    "empty/none.jpg": b"",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_colour_model(tmp_path_factory.mktemp("model"), NAMES)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    return folder


def arguments(small: SmallLake, model: str, *photos: str, **sets: str) -> list[str]:
    quoted = ", ".join('"{}"'.format(photo.replace("\\", "\\\\")) for photo in photos)
    values = {"model": model, "photos": f"[{quoted}]", "batch_size": "2"} | sets
    changes = [f"classify.{name}={value}" for name, value in values.items()]
    out = ["classify-photos", "--conf", small.conf]
    return [*out, *(part for change in changes for part in ("--set", change))]


def rows_by_name(small: SmallLake) -> dict[str, dict[str, Any]]:
    rows = rows_of(small.settings, "predictions")
    found = {row[t.PATH].rsplit("/", 1)[-1]: row for row in rows}
    return found


def page_of(small: SmallLake) -> Page:
    (file,) = (small.folder / "reports").glob("*.html")
    assert file.name.startswith("predictions_")
    return parse_page(file.read_text(encoding="utf-8"))


def tree(folder: Path) -> dict[str, bytes]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_folder_of_odd_files_is_classified_shown_and_sorted(
    small: SmallLake, model: str, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "sorted=1 ä%"
    command = [*arguments(small, model, str(album)), "--sort-into", str(into)]
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


class Host(BaseHTTPRequestHandler):
    """Photos by their colour; it counts who asks at once."""

    lock, inside, most = threading.Lock(), 0, 0

    def do_GET(self) -> None:
        cls = type(self)
        with cls.lock:
            cls.inside += 1
            cls.most = max(cls.most, cls.inside)
        body = jpeg(RED) if "red" in self.path else jpeg(GREEN)
        found = "gone" not in self.path
        # Another request under way would be seen in the meantime.
        cls.pause.wait(0.02)
        with cls.lock:
            cls.inside -= 1
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(body)

    pause = threading.Event()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def host() -> Iterator[str]:
    Host.most = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_all_tasks_together_keep_to_a_hosts_budget(
    small: SmallLake, model: str, tmp_path: Path
) -> None:
    into, listed = tmp_path / "sorted", tmp_path / "list.txt"
    with host() as address:
        urls = [f"{address}/red{number}" for number in range(10)]
        odd = [f"{address}/gone.jpg", f"{address}/a%2F..%2fgreen.jpg", "http://[::1", "http:"]
        listed.write_text("\n".join([*urls, *odd, urls[0], f"{tmp_path}/not there.jpg"]))
        command = [*arguments(small, model, f"@{listed}"), "--sort-into", str(into)]
        hosts = "fetch.hosts={127.0.0.1: {transfers: 1}}"
        command += ["--set", hosts, "--set", "fetch.private_hosts=[127.0.0.1]"]
        assert main(command) == 0
    assert Host.most == 1
    statuses = [row[t.STATUS] for row in rows_of(small.settings, "predictions")]
    assert sorted(statuses) == sorted(["ok"] * 11 + ["not_found"] * 2 + ["bad_address"] * 2)
    assert sorted(file.name for file in into.rglob("*.jpg")) == sorted(
        ["green.jpg", *(f"red{number}.jpg" for number in range(10))]
    )


def test_photos_of_delta_tables_come_by_path_and_by_bytes(
    spark: SparkSession, small: SmallLake, model: str, album: Path, tmp_path: Path
) -> None:
    paths = [(f"{album}/b/grey.jpg",), (f"{album}/b/grey.jpg",), (None,), ("relative.jpg",)]
    write_delta(spark, paths, "file string", tmp_path / "a#1 ä=%")
    held = [("one", jpeg(RED)), ("two", None), ("ü/../3.jpg", jpeg(BLUE, (500, 20)))]
    write_delta(spark, held, "path string, content binary", tmp_path / "bytes")
    into = tmp_path / "sorted"
    patterns = (f"delta:{tmp_path}/a#1 ä=%#file", f"delta:{tmp_path}/bytes", f"{album}/b/grey.jpg")
    command = [*arguments(small, model, *patterns, min_probability="0"), "--sort-into", str(into)]
    assert main(command) == 0
    table = f"delta:{(tmp_path / 'bytes').as_uri()}#"
    found = {row[t.PATH]: row[t.STATUS] for row in rows_of(small.settings, "predictions")}
    assert found == {
        f"{album}/b/grey.jpg": "ok",
        "": "bad_address",
        "relative.jpg": "bad_address",
        f"{table}one": "ok",
        f"{table}two": "empty",
        f"{table}ü/../3.jpg": "ok",
    }
    assert len(rows_of(small.settings, "predictions")) == len(found)
    names = [file.name.split("-")[0] for file in sorted(into.rglob("*.jpg"))]
    assert sorted(names) == ["3", "grey.jpg", "one"]


def write_delta(
    spark: SparkSession, rows: list[tuple[Any, ...]], schema: str, folder: Path
) -> None:
    spark.createDataFrame(rows, schema).write.format("delta").save(str(folder))


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (
            "delta:{0}/t#nothing",
            "the table has no column nothing, expected paths (string) or bytes",
        ),
        ("delta:{0}/t#number", "column number is int, expected paths (string) or bytes (binary); "),
        ("delta:{0}/t", "none of the columns content, path, url; name one with #COLUMN; it has "),
        ("delta:{0}/t#photo", "the table has no column path, expected a string that names the ph"),
        ("delta:{0}/t#photo,name", "2 photos are called 'x' in column name; a photo's name must"),
        (
            "delta:{0}/t#name,number",
            "column name has paths and addresses, which are names themselv",
        ),
        (
            "delta:crops#jpeg,box_id",
            "photos of the lake's crops have names of their own; leave out",
        ),
        ("delta:{0}/none", "no Delta table is there; expected delta:TABLE"),
        ("delta:boxes", "the lake's boxes has no photos; expected delta:TABLE"),
        ("delta:{0}/void#photo,name", "no photos there, the table has no row with one"),
    ],
)
def test_a_table_that_is_not_what_was_meant_is_told_with_its_columns(
    small: SmallLake,
    tables: Path,
    capsys: pytest.CaptureFixture[str],
    pattern: str,
    said: str,
    model: str,
) -> None:
    assert main(arguments(small, model, pattern.format(tables))) == 4
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    columns = "number int, name string, photo binary"
    write_delta(spark, [(1, "x", b"1"), (2, "x", b"2")], columns, folder / "t")
    write_delta(spark, [], columns, folder / "void")
    return folder


def test_photos_of_the_lake_are_credited_and_none_that_was_forgotten_is_asked_for(
    small: SmallLake, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photo_e = f"{14:016x}"
    with host() as address:
        for image_id, name in ((photo_e, "red.jpg"), (f"{15:016x}", "gone.jpg")):
            row = {t.IMAGE_ID: image_id, t.SUBSET: "train", **ATTRIBUTION, t.TITLE: SCRIPT}
            small.add(t.PHOTOS, row | {t.ORIGINAL_URL: f"{address}/{name}"})
        small.add(t.FORGOTTEN_PHOTOS, {t.IMAGE_ID: f"{15:016x}"})
        command = arguments(small, model, "delta:photos", "delta:crops", min_probability="0")
        assert main([*command, "--set", "fetch.private_hosts=[127.0.0.1]"]) == 0
    rows = rows_of(small.settings, "predictions")
    paths = {row[t.PATH].rsplit("/", 1)[-1]: row[t.STATUS] for row in rows}
    crops = ("a1", "a2", "b1", "b2", "c1", "c2")
    assert paths == {"red.jpg": "ok"} | {f"{box_id}.jpg": "ok" for box_id in crops}
    page = page_of(small)
    assert page.text.count("CC BY 2.0") == 7
    assert f"photo {photo_e}" in page.text
    # What was forgotten later goes from the page, the table and the CSV.
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A, photo_e]) == 0
    said = capsys.readouterr().out
    assert "page removed, it showed them" in said
    left = {row[t.PATH].rsplit("/", 1)[-1] for row in rows_of(small.settings, "predictions")}
    assert left == {"b1.jpg", "b2.jpg", "c1.jpg", "c2.jpg"}
    (file,) = (small.folder / "predictions_csv").iterdir()
    text = file.read_text()
    assert PHOTO_B in text
    assert PHOTO_A not in text
    assert "red.jpg" not in text


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
    small: SmallLake, model: str, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "void").mkdir()
    command = arguments(small, model, str(album))
    for place, said in (
        (["--sort-into", str(file)], f"--sort-into {file}: is a file"),
        (["--sort-into", str(file / "below")], f"--sort-into {file}/below: cannot be written"),
        (["--sort-into", str(album / "sorted")], f"lies in {album}, so the next run would sort"),
        (["--sort-into", f"{small.folder}/sorted"], "is in the lake; expected a folder elsewhere"),
        (["--out", str(tmp_path)], f"--out {tmp_path}: is a folder"),
    ):
        assert main([*command, *place]) == 2
        assert said in capsys.readouterr().err
    assert main(arguments(small, model, str(tmp_path / "void"))) == 4
    assert "void: no photos there; expected a folder" in capsys.readouterr().err
    assert main(arguments(small, str(tmp_path / "no.keras"), str(album))) == 4
    assert main(arguments(small, model)) == 2
    assert "classify.photos is empty" in capsys.readouterr().err
    for command in (
        [*arguments(small, model, str(album)), "--sort-into", "gs://b/x"],
        [*arguments(small, model, str(album)), "--out", "gs://b/x"],
        arguments(small, model, str(album), csv="gs://b/x"),
        arguments(small, "gs://b/x", str(album)),
        arguments(small, model, "delta:gs://b/x"),
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "croplake: 'gs://b/x" in said
        assert "': files are not kept there; expected a local path, file:///FOLDER, s3a://" in said
    assert not small.lake.exists(t.PREDICTIONS)
    assert not (album / "sorted").exists()


def test_copies_that_cannot_be_written_leave_the_answers_and_a_way_out(
    small: SmallLake, model: str, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "unsure").write_text("a file where a folder should be")
    command = [*arguments(small, model, f"{album}/b/grey.jpg"), "--sort-into", str(into)]
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
    model: str,
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
        command = arguments(small, model, *patterns, min_probability="0")
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
