"""Making a miniature world, or finding it made."""

from __future__ import annotations

import csv
import functools
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from croplake.errors import SettingsError
from croplake.miniature.csvs import write_csvs
from croplake.miniature.faults import Fault, choose_faults
from croplake.miniature.photo import PhotoFacts, make_photo
from croplake.miniature.scene import draw_portrait
from croplake.miniature.shapes import MAIN_SHAPES

FORMAT_VERSION: Final = 2
"""Goes up when the same seed would draw other photos; a world of another version is drawn anew."""

_DONE: Final = "world.json"
_MARKER: Final = ".croplake-miniature"
_NUM_NEW_PHOTOS: Final = 40
_ALONE_UP_TO: Final = 100


@dataclass(frozen=True)
class World:
    """A finished world on disk.

    Attributes:
        root: its folder.
        num_photos: its size.
        seed: it is drawn from.
    """

    root: Path
    num_photos: int
    seed: int

    @property
    def csv_dir(self) -> Path:
        """Folder of the CSVs and the hierarchy."""
        return self.root / "csv"

    @property
    def new_photos_dir(self) -> Path:
        """Photos that are not in the catalog, to be classified; some are no photos."""
        return self.root / "new_photos"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that a classifier of this world is for."""
        return tuple(shape.class_name for shape in MAIN_SHAPES)

    def photos(self) -> list[dict[str, Any]]:
        """Facts of every photo, as `PhotoFacts` has them."""
        content: list[dict[str, Any]] = json.loads((self.root / "photos.json").read_text())
        return content

    def faults(self) -> dict[str, Fault]:
        """Image id to what is wrong with the photo's hosts."""
        content: dict[str, Fault] = json.loads((self.root / "faults.json").read_text())
        return content


def build_world(root: Path, *, num_photos: int, seed: int) -> World:
    """Draws a world, unless it is there already.

    Args:
        root: its folder; an unfinished or other world in it is removed.
        num_photos: its size.
        seed: decides everything in it.

    Returns:
        The finished world.

    Raises:
        SettingsError: the folder holds something else.
    """
    wanted = json.dumps({"format_version": FORMAT_VERSION, "num_photos": num_photos, "seed": seed})
    world = World(root, num_photos, seed)
    done = root / _DONE
    # As bytes: a file of someone else, or one cut off by a kill, need not be JSON.
    if done.is_file() and done.read_bytes() == wanted.encode():
        return world
    _clear(root)
    photos = list(_draw(root, num_photos, seed))
    write_csvs(world.csv_dir, photos, seed)
    _write_new_photos(world)
    faults = choose_faults([photo.image_id for photo in photos], seed)
    (root / "faults.json").write_text(json.dumps(faults))
    (root / "photos.json").write_text(json.dumps([asdict(photo) for photo in photos]))
    done.write_text(wanted)
    return world


def _clear(root: Path) -> None:
    """Empties the folder; a killed removal leaves its marker, but no world that seems whole."""
    is_empty = not root.exists() or (root.is_dir() and not any(root.iterdir()))
    if not is_empty and not (root / _MARKER).exists():
        raise SettingsError(f"{root} is not a miniature world and not empty; choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARKER).touch()
    (root / _DONE).unlink(missing_ok=True)
    # Not the folder itself: it may be a link or a mounted disk.
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _MARKER:
            path.unlink()


def _draw(root: Path, num_photos: int, seed: int) -> Iterator[PhotoFacts]:
    make = functools.partial(make_photo, root, seed)
    if num_photos <= _ALONE_UP_TO:
        yield from map(make, range(num_photos))
        return
    # A fresh interpreter each: a fork would copy the threads' locks of whoever asks.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        yield from pool.map(make, range(num_photos), chunksize=32)


def _write_new_photos(world: World) -> None:
    world.new_photos_dir.mkdir()
    rng = np.random.default_rng([world.seed, 1 << 22])
    rows = [("file", "class")]
    for number in range(_NUM_NEW_PHOTOS):
        shape = MAIN_SHAPES[number % len(MAIN_SHAPES)]
        name = f"{shape.class_name.lower().replace(' ', '-')}_{number:02d}.jpg"
        draw_portrait(shape, rng).save(world.new_photos_dir / name, quality=90)
        rows.append((name, shape.class_name))
    whole = (world.new_photos_dir / rows[1][0]).read_bytes()
    (world.new_photos_dir / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (world.new_photos_dir / "notes.txt").write_text("These are no pixels.\n")
    with (world.root / "new_photos_labels.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
