from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from croplake import tables as t
from croplake.cli import main
from croplake.conf import Settings
from croplake.errors import CroplakeError, IncompleteError, InputDataError, SettingsError
from croplake.jobs import find_similar
from croplake.jobs.context import JobContext
from croplake.jobs.way import run_look
from tests.html_page import Page, parse_page
from tests.jobs.probed_lake import (
    NUM_EACH,
    box_id_of,
    colour_of,
    example_of,
    image_id_of,
    jpeg,
    save_network,
    with_changes,
)
from tests.jobs.small_lake import SmallLake
from tests.jobs.world import rows_of

PEAR_NUMBERS = range(NUM_EACH, 2 * NUM_EACH)


def picture(folder: Path, colour: tuple[int, int, int], name: str = "my phötö 100%.jpg") -> str:
    file = folder / name
    file.write_bytes(jpeg(colour))
    return str(file)


@pytest.fixture
def small(probed: SmallLake) -> SmallLake:
    """A lake with embeddings, whose network lies nowhere else."""
    return probed


def look(
    small: SmallLake,
    photo: str,
    *,
    top: int = 3,
    dataset: str | None = None,
    settings: Settings | None = None,
) -> tuple[list[str], Page, str]:
    """The photos on the page, the page, and what was printed."""
    console = Console(file=io.StringIO(), width=200, record=True)
    out = str(small.folder.parent / "page.html")
    asked = {"photo": photo, "top": top, "dataset": dataset}
    run_look(small.spark, "find_similar", settings or small.settings, console, out=out, asked=asked)
    page = parse_page(Path(out).read_text(encoding="utf-8"))
    shown = [e.text.removeprefix("photo ") for e in page.all("span") if e.text.startswith("photo ")]
    return shown, page, console.export_text()


def photos(*numbers: int) -> list[str]:
    return [image_id_of(number) for number in numbers]


def test_the_page_has_the_photo_and_the_nearest_crops_with_their_credit(
    small: SmallLake, tmp_path: Path
) -> None:
    file = picture(tmp_path, colour_of(NUM_EACH + 2))
    shown, page, said = look(small, file)
    assert shown[0] == image_id_of(NUM_EACH + 2)
    assert set(shown) == set(photos(*range(NUM_EACH + 1, NUM_EACH + 4)))
    images = page.all("img")
    assert len(images) == 4
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert images[0]["alt"] == f"The photo that was asked for, {file}"
    assert images[1]["alt"].startswith(f"Pear, crop of photo {shown[0]}, licence CC BY 2.0, by Ann")
    ranks = [e.text for e in page.all("span") if ". at " in e.text]
    assert ranks[0].startswith("1. at 0.00")
    assert [rank[:2] for rank in ranks] == ["1.", "2.", "3."]
    links = {e["href"] for e in page.all("a")}
    assert "https://www.flickr.com/photos/ann/1" in links
    assert "https://creativecommons.org/licenses/by/2.0/" in links
    assert f"<script>alert({NUM_EACH + 2})</script> Ä {NUM_EACH + 2}" in page.text
    assert "among 12 crops of the lake. Each was compared." in page.text
    assert "find_similar: 3 of 12 crops" in said
    assert "CC BY 2.0" in said


def test_a_photo_is_named_by_a_path_of_the_working_folder_too(
    small: SmallLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown, _, _ = look(
        small, Path(picture(tmp_path, colour_of(NUM_EACH + 2), "photo:1 #2?.jpg")).name
    )
    assert shown[0] == image_id_of(NUM_EACH + 2)


def test_a_crop_of_the_lake_is_asked_for_by_its_box_id_and_is_not_its_own_neighbour(
    small: SmallLake,
) -> None:
    shown, page, _ = look(small, box_id_of(1), top=2)
    assert set(shown) == set(photos(0, 2))
    images = page.all("img")
    assert images[0]["alt"].startswith(f"Apple, crop of photo {image_id_of(1)}")


def test_more_than_the_lake_has_are_all_of_them(small: SmallLake, tmp_path: Path) -> None:
    shown, page, _ = look(small, picture(tmp_path, (200, 10, 10)), top=1000)
    assert sorted(shown) == sorted(photos(*range(2 * NUM_EACH)))
    distances = [float(e.text.split(" at ")[1]) for e in page.all("span") if ". at " in e.text]
    assert distances == sorted(distances)


def test_only_examples_of_a_dataset_are_shown_where_one_is_named(
    small: SmallLake, tmp_path: Path
) -> None:
    crops = {row[t.BOX_ID]: row for row in rows_of(small.settings, "crops")}
    of_others = [crops[box_id_of(number)] for number in (0, NUM_EACH)]
    small.add(t.EXAMPLES, *(example_of(small, crop, "train", "others") for crop in of_others))
    file = picture(tmp_path, colour_of(NUM_EACH + 2))
    shown, page, _ = look(small, file, dataset="others")
    assert shown == photos(NUM_EACH, 0)
    assert "of which only examples of the dataset others may be shown" in page.text
    with pytest.raises(InputDataError, match="--dataset nothing: the lake has no examples of it"):
        look(small, file, dataset="nothing")


def test_a_forgotten_photo_is_not_shown_though_its_vector_is_still_there(
    small: SmallLake, tmp_path: Path
) -> None:
    file = picture(tmp_path, colour_of(NUM_EACH + 2))
    gone = image_id_of(NUM_EACH + 2)
    small.add(t.FORGOTTEN_PHOTOS, {t.IMAGE_ID: gone, t.RUN_ID: "r"})
    shown, _, _ = look(small, file)
    assert len(shown) == 3
    assert gone not in shown
    assert gone not in (small.folder.parent / "page.html").read_text()
    with pytest.raises(InputDataError, match="its photo was to be forgotten"):
        look(small, box_id_of(NUM_EACH + 2))


def test_a_photo_that_is_forgotten_meanwhile_is_not_shown(
    small: SmallLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = image_id_of(NUM_EACH + 2)
    original = find_similar._crops

    def forget_then(context: JobContext, *args: Any) -> Any:  # noqa: ANN401
        small.add(t.FORGOTTEN_PHOTOS, {t.IMAGE_ID: gone, t.RUN_ID: "r"})
        return original(context, *args)

    monkeypatch.setattr(find_similar, "_crops", forget_then)
    shown, _, _ = look(small, picture(tmp_path, colour_of(NUM_EACH + 2)))
    assert len(shown) == 2
    assert gone not in shown


@pytest.mark.full
def test_forgetting_removes_the_page_that_shows_the_photo_and_the_indexes(
    small: SmallLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = picture(tmp_path, colour_of(NUM_EACH + 2))
    assert main(["find-similar", file, "--top", "2", "--conf", small.conf]) == 0
    (page,) = (small.folder / "reports").iterdir()
    assert page.name.startswith("similar_my-ph-t-100_")
    others = picture(tmp_path, colour_of(0), "other.jpg")
    assert main(["find-similar", others, "--top", "2", "--conf", small.conf]) == 0
    assert main(["lake", "forget", "--conf", small.conf, image_id_of(NUM_EACH + 2)]) == 0
    (left,) = (small.folder / "reports").iterdir()
    assert left.name.startswith("similar_other_")


@pytest.mark.full
def test_an_index_shows_what_comparing_with_each_does_and_no_forgotten_photo(
    small: SmallLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason="the extra `similar` is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    by_index = with_changes(small.settings, "similar", exact_up_to=0)
    file = picture(tmp_path, colour_of(NUM_EACH + 2))
    exact, _, _ = look(small, file, top=5)
    shown, page, said = look(small, file, top=5, settings=by_index)
    assert shown[0] == exact[0]
    assert len(shown) == 5
    assert "An index named the nearest" in page.text
    assert "making an index of 12 vectors" in said
    assert "making an index" not in look(small, file, settings=by_index)[2]
    small.add(t.FORGOTTEN_PHOTOS, {t.IMAGE_ID: exact[0], t.RUN_ID: "r"})
    shown, _, said = look(small, file, top=5, settings=by_index)
    assert len(shown) == 5
    assert exact[0] not in shown
    assert "making an index" not in said
    assert main(["lake", "forget", "--conf", small.conf, exact[1]]) == 0
    assert not list((tmp_path / "cache" / "croplake" / "similar").iterdir())
    shown, _, said = look(small, file, top=5, settings=by_index)
    assert exact[1] not in shown
    assert "making an index of 11 vectors" in said


def test_the_newest_embeddings_are_asked_or_those_that_are_named(
    small: SmallLake, tmp_path: Path
) -> None:
    newest = rows_of(small.settings, "embeddings")[0]
    older = newest | {
        t.NETWORK_DIGEST: "0" * 16,
        t.NETWORK: "imagenet:Older 224",
        t.RUN_ID: "20000101T000000-000000",
    }
    small.add(t.EMBEDDINGS, older)
    _, page, _ = look(small, box_id_of(1))
    assert f"network {newest[t.NETWORK]}, among 12 crops" in page.text
    by_name = with_changes(small.settings, "similar", network="imagenet:Older")
    shown, page, _ = look(small, older[t.BOX_ID], settings=by_name)
    assert shown == []
    assert "There is no crop to show." in page.text
    other = with_changes(small.settings, "similar", network="imagenet:Other")
    with pytest.raises(SettingsError, match=r"no embeddings of 'imagenet:Other'; there are 'file:"):
        look(small, box_id_of(1), settings=other)


def test_a_lake_without_embeddings_names_the_job_that_makes_them(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(small.folder / "embeddings")
    assert main(["find-similar", box_id_of(1), "--conf", small.conf]) == 4
    assert "no embeddings; croplake probe-examples makes those" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("photo", "begins"),
    [
        ("https://host/a/my%20photo.jpg?size=9/x#y", "similar_my-20photo_"),
        ("/photos/photo:1 #2?.jpg", "similar_photo-1-2_"),
        (f"https://host/{'long-' * 400}.jpg", f"similar_{'long-' * 8}_"),
        ("ä" * 120, "similar_"),
        ("http://[", "similar_"),
        ("", "similar_"),
    ],
)
def test_a_page_is_called_like_its_photo_whatever_that_is_called(photo: str, begins: str) -> None:
    name = find_similar._page_name(photo)
    assert name.startswith(begins)
    assert len(name) < 100
    assert name != find_similar._page_name(photo + "x")


@pytest.mark.parametrize("top", ["0", "1001", "-3"])
def test_a_wrong_number_is_exit_code_2(
    small: SmallLake, top: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["find-similar", box_id_of(1), f"--top={top}", "--conf", small.conf]) == 2
    assert f"--top {top}: expected a number from 1 to 1000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("photo", "kind", "said"),
    [
        ("nowhere.jpg", InputDataError, r"nowhere\.jpg: not_found: "),
        ("letter.jpg", InputDataError, r"letter\.jpg: not_a_photo: "),
        ("torn.jpg", InputDataError, r"torn\.jpg: broken_photo: "),
        ("black.jpg", InputDataError, r"black\.jpg: what file:.* says of it is zero"),
        ("long.jpg", InputDataError, r"long\.jpg: too_many_bytes: "),
        ("f" * 32, InputDataError, "has no vector of a crop with this box_id"),
        ("http://127.0.0.1:9/a.jpg", InputDataError, "forbidden_address"),
        ("gs://host/a.jpg", InputDataError, "gs://host/a.jpg: bad_address: .*expected an absolute"),
        ("http://[", InputDataError, "bad_address"),
        ("s3a://", InputDataError, "bad_address: 's3a://': files are not kept there"),
        ("", InputDataError, "^'': bad_address: "),
    ],
)
def test_what_is_no_photo_is_named_with_the_reason(
    small: SmallLake, tmp_path: Path, photo: str, kind: type[CroplakeError], said: str
) -> None:
    (tmp_path / "letter.jpg").write_bytes(b"Dear Sir, ")
    (tmp_path / "torn.jpg").write_bytes(jpeg((1, 2, 3))[:200])
    (tmp_path / "long.jpg").write_bytes(jpeg((1, 2, 3)) + b" " * 100_000)
    picture(tmp_path, (0, 0, 0), "black.jpg")
    settings = with_changes(small.settings, "fetch", max_photo_bytes=50_000)
    local = photo.endswith(".jpg") and "://" not in photo
    with pytest.raises(kind, match=said):
        look(small, str(tmp_path / photo) if local else photo, settings=settings)
    assert not (small.folder.parent / "page.html").exists()


def test_a_host_that_is_not_there_now_may_be_asked_again(small: SmallLake) -> None:
    settings = with_changes(small.settings, "fetch", private_hosts=("127.0.0.1",))
    with pytest.raises(IncompleteError, match=r"host_unreachable: .*the same command asks again"):
        look(small, "http://127.0.0.1:9/a.jpg", settings=settings)


def test_vectors_of_two_lengths_are_refused_and_a_changed_network_is_named(
    small: SmallLake, tmp_path: Path
) -> None:
    row = rows_of(small.settings, "embeddings")[0]
    file = picture(tmp_path, (200, 10, 10))
    (network,) = [path for path in (small.folder / "networks").rglob("*.keras")]
    original = network.read_bytes()
    save_network(tmp_path / "other", scale=1 / 3)
    shutil.copy(tmp_path / "other" / "model.keras", network)
    with pytest.raises(InputDataError, match="this is not the network any more that made the emb"):
        look(small, file)
    network.unlink()
    with pytest.raises(InputDataError, match="is not there any more; run croplake probe-examples"):
        look(small, file)
    old = {t.NETWORK: row[t.NETWORK].removesuffix(" 32"), t.NETWORK_DIGEST: "an older croplake's"}
    small.put(t.EMBEDDINGS, row | old)
    with pytest.raises(InputDataError, match="is not there any more; run croplake probe-examples"):
        look(small, file)
    small.put(t.EMBEDDINGS, row)
    network.write_bytes(original)
    small.add(t.EMBEDDINGS, row | {t.BOX_ID: "e" * 32, t.VECTOR: [1.0, 2.0]})
    with pytest.raises(InputDataError, match="have 3 numbers, others 2; croplake lake check names"):
        look(small, file)


def test_a_crop_that_the_lake_has_lost_is_left_out_and_told(
    small: SmallLake, tmp_path: Path
) -> None:
    small.lake.delete(t.CROPS, f"box_id = '{box_id_of(NUM_EACH + 2)}'")
    shown, _, said = look(small, picture(tmp_path, colour_of(NUM_EACH + 2)))
    assert len(shown) == 2
    assert "1 crops are not in the lake any more" in said
