"""The world on disk: the same from the same seed, drawn once, and never over something else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, UnidentifiedImageError

from croplake.errors import SettingsError
from croplake.miniature import World, build_world
from croplake.miniature.faults import choose_faults
from croplake.miniature.photo import make_photo

PHOTO_FOLDERS = ("originals", "mirror", "thumbnails")
DRAWER = "croplake.miniature.world.make_photo"


def digests(root: Path, *folders: str) -> dict[str, str]:
    """Relative path to SHA-256 of every file below `root`, or below these folders of it."""
    tops = [root / folder for folder in folders] or [root]
    files = [path for top in tops for path in top.rglob("*") if path.is_file()]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def states(root: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of change of every file."""
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


def photo_files(root: Path, photo: dict[str, Any]) -> dict[str, bytes]:
    image_id = photo["image_id"]
    names = (
        f"originals/{image_id}",
        f"mirror/{photo['subset']}/{image_id}.jpg",
        f"thumbnails/{image_id}.jpg",
    )
    return {name: (root / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("small") / "world", num_photos=12, seed=1)


@pytest.fixture
def few_new_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares time where a test draws several worlds of its own."""
    monkeypatch.setattr("croplake.miniature.world._NUM_NEW_PHOTOS", 2)


def test_the_same_seed_gives_equal_bytes_of_every_file(small: World, tmp_path: Path) -> None:
    again = build_world(tmp_path / "again", num_photos=12, seed=1)
    found = digests(again.root)
    assert found == digests(small.root)
    assert len([name for name in found if name.startswith("csv/")]) == 8


def test_another_seed_gives_other_photos_and_rows(small: World, tmp_path: Path) -> None:
    other = build_world(tmp_path / "other", num_photos=12, seed=2)
    ours, theirs = digests(small.root, *PHOTO_FOLDERS), digests(other.root, *PHOTO_FOLDERS)
    assert not set(ours) & set(theirs)
    assert not set(ours.values()) & set(theirs.values())
    assert not {p["image_id"] for p in small.photos()} & {p["image_id"] for p in other.photos()}
    train = "csv/train-images-boxable-with-rotation.csv"
    assert digests(small.root)[train] != digests(other.root)[train]


def test_one_number_sizes_the_world(world: World, small: World) -> None:
    for one in (world, small):
        ids = [photo["image_id"] for photo in one.photos()]
        assert len(ids) == len(set(ids)) == one.num_photos
        for folder in PHOTO_FOLDERS:
            files = [path for path in (one.root / folder).rglob("*") if path.is_file()]
            assert sorted(path.stem for path in files) == sorted(ids)


def test_every_subset_has_its_share(world: World) -> None:
    subsets = [photo["subset"] for photo in world.photos()]
    shares = {name: subsets.count(name) / len(subsets) for name in set(subsets)}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.08)


def test_photos_drawn_in_parallel_equal_those_drawn_one_by_one(
    world: World, tmp_path: Path
) -> None:
    photos = world.photos()
    # 7 shares no factor with the pool's chunks of 32: every place in a chunk comes up.
    for index in {*range(0, world.num_photos, 7), world.num_photos - 1}:
        alone = dataclasses.asdict(make_photo(tmp_path, world.seed, index))
        assert alone == photos[index]
        assert photo_files(tmp_path, alone) == photo_files(world.root, alone)


def test_a_second_build_draws_nothing_anew(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(root: Path, seed: int, index: int) -> None:
        raise AssertionError(f"photo {index} is drawn again")

    monkeypatch.setattr(DRAWER, draw)
    before = states(small.root)
    assert build_world(small.root, num_photos=12, seed=1) == small
    assert states(small.root) == before


@pytest.mark.usefixtures("few_new_photos")
@pytest.mark.parametrize(("num_photos", "seed"), [(3, 1), (2, 9)])
def test_another_size_or_seed_in_the_same_folder_is_drawn_anew(
    num_photos: int, seed: int, tmp_path: Path
) -> None:
    build_world(tmp_path / "world", num_photos=2, seed=1)
    (tmp_path / "world/leftover.csv").touch()
    build_world(tmp_path / "world", num_photos=num_photos, seed=seed)
    build_world(tmp_path / "fresh", num_photos=num_photos, seed=seed)
    assert digests(tmp_path / "world") == digests(tmp_path / "fresh")


@pytest.mark.usefixtures("few_new_photos")
def test_a_world_of_another_format_is_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = build_world(tmp_path / "world", num_photos=1, seed=1)
    before = states(old.root)
    monkeypatch.setattr("croplake.miniature.world.FORMAT_VERSION", 1000)
    build_world(old.root, num_photos=1, seed=1)
    after = states(old.root)
    assert all(before[path] != after[path] for path in old.root.rglob("mirror/*/*.jpg"))


def test_a_world_whose_drawing_was_killed_is_drawn_anew(
    small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(root: Path, seed: int, index: int) -> Any:  # noqa: ANN401
        if index == 7:
            raise KeyboardInterrupt
        return make_photo(root, seed, index)

    root = tmp_path / "world"
    with monkeypatch.context() as patch:
        patch.setattr(DRAWER, draw)
        with pytest.raises(KeyboardInterrupt):
            build_world(root, num_photos=12, seed=1)
    assert len(list((root / "originals").iterdir())) == 7
    build_world(root, num_photos=12, seed=1)
    assert digests(root) == digests(small.root)


@pytest.mark.usefixtures("few_new_photos")
def test_a_world_killed_in_its_last_write_is_drawn_anew(tmp_path: Path) -> None:
    world = build_world(tmp_path / "world", num_photos=1, seed=1)
    whole = digests(world.root)
    (world.root / "world.json").write_text('{"format_ver')
    build_world(world.root, num_photos=1, seed=1)
    assert digests(world.root) == whole


@pytest.mark.usefixtures("few_new_photos")
def test_a_world_killed_while_it_is_removed_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(folder: Path) -> None:
        next(path for path in folder.rglob("*") if path.is_file()).unlink()
        raise KeyboardInterrupt

    world = build_world(tmp_path / "world", num_photos=1, seed=1)
    whole = digests(world.root)
    with monkeypatch.context() as patch:
        patch.setattr("croplake.miniature.world.shutil.rmtree", remove)
        with pytest.raises(KeyboardInterrupt):
            build_world(world.root, num_photos=1, seed=2)
    build_world(world.root, num_photos=1, seed=1)
    assert digests(world.root) == whole


@pytest.mark.parametrize("name", ["thesis.txt", "world.json", "deep/photos.json"])
def test_a_folder_that_holds_something_else_is_refused_and_left_untouched(
    name: str, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("years of work")
    before = states(tmp_path)
    with pytest.raises(SettingsError, match=r"theirs is not a miniature world and not empty"):
        build_world(tmp_path / "theirs", num_photos=1, seed=1)
    assert states(tmp_path) == before
    assert theirs.read_text() == "years of work"


def test_a_file_where_the_folder_should_be_is_refused_and_left_untouched(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("years of work")
    with pytest.raises(SettingsError, match=r"theirs is not a miniature world"):
        build_world(tmp_path / "theirs", num_photos=1, seed=1)
    assert (tmp_path / "theirs").read_text() == "years of work"


@pytest.mark.usefixtures("few_new_photos")
def test_a_world_behind_a_link_is_drawn_anew_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "world").symlink_to(tmp_path / "disk")
    for seed in (1, 2):
        world = build_world(tmp_path / "world", num_photos=1, seed=seed)
        assert (tmp_path / "disk/originals" / world.photos()[0]["image_id"]).is_file()
    assert len(list((tmp_path / "disk/originals").iterdir())) == 1


@pytest.mark.usefixtures("few_new_photos")
def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert len(build_world(tmp_path, num_photos=1, seed=1).photos()) == 1


def test_the_new_photos_have_labels_and_two_files_are_no_photos(small: World) -> None:
    header, *rows = (small.root / "new_photos_labels.csv").read_text().splitlines()
    labels = dict(row.split(",") for row in rows)
    assert header == "file,class"
    assert set(labels.values()) == set(small.class_names)
    files = {path.name for path in small.new_photos_dir.iterdir()}
    assert files - set(labels) == {"broken.jpg", "notes.txt"}
    for name in labels:
        Image.open(small.new_photos_dir / name).load()
    with pytest.raises(OSError, match="truncated"):
        Image.open(small.new_photos_dir / "broken.jpg").load()
    with pytest.raises(UnidentifiedImageError):
        Image.open(small.new_photos_dir / "notes.txt")


def test_few_photos_misbehave_each_in_one_way_and_from_200_on_in_every_way(world: World) -> None:
    ids = [f"{number:016x}" for number in range(4000)]
    for size, seed in ((200, 1), (400, 2), (4000, 3)):
        faults = choose_faults(ids[:size], seed)
        kinds = sorted(faults.values())
        assert set(kinds) == {"gone", "mirror_gone", "truncated", "empty", "html", "busy"}
        assert kinds.count("gone") == size // 100
        assert kinds.count("mirror_gone") == size // 25
        assert 0.05 < len(faults) / size < 0.08
        assert set(faults) <= set(ids[:size])
    assert choose_faults(ids, 1) == choose_faults(ids, 1) != choose_faults(ids, 2)
    assert json.loads((world.root / "faults.json").read_text()) == world.faults()
    assert set(world.faults()) <= {photo["image_id"] for photo in world.photos()}
