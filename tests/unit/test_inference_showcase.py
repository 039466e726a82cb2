"""The photos a page shows: chosen alike however the tasks are cut."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from croplake import tables as t
from croplake.inference.photos import Opened
from croplake.inference.showcase import Showcase, read_showcases

WHITE = np.full((30, 60, 3), 255, np.uint8)


def row(number: int) -> dict[str, Any]:
    category = "Boat" if number % 3 else "Fish"
    status = "unsure" if number % 5 == 0 else "ok"
    guesses = [(category, 0.75), ("Hat", 0.25)]
    return {
        t.PATH: f"/x/{number}",
        t.STATUS: status,
        t.CATEGORY: category,
        t.PROBABILITIES: guesses,
    }


def leave(folder: Path, tasks: list[list[int]], num_of_group: int = 4) -> None:
    for numbers in tasks:
        showcase = Showcase(num_of_group, side_px=20)
        for number in numbers:
            opened = Opened(f"/x/{number}", "ok", small_HWC=showcase.shrink(WHITE))
            showcase.take(opened, row(number))
        showcase.leave(folder.as_uri())


def test_the_choice_depends_on_the_photos_alone(tmp_path: Path) -> None:
    numbers = list(range(200))
    leave(tmp_path / "one", [numbers])
    random.Random(1).shuffle(numbers)
    # The last task was tried again.
    leave(tmp_path / "many", [numbers[:120], numbers[120:], numbers[120:], []])
    one, many = (read_showcases((tmp_path / name).as_uri(), 4) for name in ("one", "many"))
    assert one == many
    assert list(one) == [(False, "Boat"), (False, "Fish"), (True, "")]
    assert [len(rows) for rows in one.values()] == [4, 4, 4]
    assert {shown[t.STATUS] for shown in one[True, ""]} == {"unsure"}
    numbers_shown = [int(shown[t.PATH][3:]) for shown in one[False, "Boat"]]
    assert numbers_shown != sorted(numbers_shown)  # not simply the first
    assert one[False, "Boat"][0][t.PROBABILITIES] == [("Boat", 0.75), ("Hat", 0.25)]


def test_a_small_picture_keeps_its_proportions_and_never_grows(tmp_path: Path) -> None:
    showcase = Showcase(1, side_px=20)
    assert showcase.shrink(WHITE).shape == (10, 20, 3)
    assert showcase.shrink(WHITE[:3, :5]).shape == (3, 5, 3)
    assert showcase.shrink(np.zeros((1, 500, 3), np.uint8)).shape == (1, 20, 3)
    leave(tmp_path, [[1]])
    ((shown,),) = read_showcases(tmp_path.as_uri(), 4).values()
    with Image.open(io.BytesIO(shown[t.JPEG])) as image:
        assert image.size == (shown[t.WIDTH_PX], shown[t.HEIGHT_PX]) == (20, 10)


def test_photos_without_an_answer_are_not_shown(tmp_path: Path) -> None:
    showcase = Showcase(4, side_px=20)
    showcase.take(Opened("/x", "not_finite"), row(1) | {t.STATUS: "not_finite"})
    showcase.leave(tmp_path.as_uri())
    assert read_showcases(tmp_path.as_uri(), 4) == {}
