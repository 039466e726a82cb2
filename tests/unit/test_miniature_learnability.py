"""The world is no colour chart: mean colour alone does not tell its classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from croplake.miniature import World


def mean_colours(
    world: World, photos: list[dict[str, Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean RGB, shape (boxes, 3), and class index, shape (boxes,), of all boxes of main classes."""
    colours, labels = [], []
    for photo in photos:
        path = world.root / "mirror" / photo["subset"] / f"{photo['image_id']}.jpg"
        image_HWC = np.asarray(Image.open(path).convert("RGB"))
        height, width = image_HWC.shape[:2]
        for box in photo["boxes"]:
            if box["class_name"] not in world.class_names:
                continue
            top, bottom = int(box["y_min"] * height), round(box["y_max"] * height)
            left, right = int(box["x_min"] * width), round(box["x_max"] * width)
            colours.append(image_HWC[top:bottom, left:right].mean(axis=(0, 1)))
            labels.append(world.class_names.index(box["class_name"]))
    return np.array(colours), np.array(labels)


def nearest_centroid_score(
    train: tuple[NDArray[np.float64], NDArray[np.int64]],
    test: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> float:
    """Share of test rows whose nearest class mean of the train rows is their own class's."""
    centroids = np.stack([train[0][train[1] == n].mean(axis=0) for n in np.unique(train[1])])
    distances = np.linalg.norm(test[0][:, None] - centroids[None], axis=2)
    return float((distances.argmin(axis=1) == test[1]).mean())


def test_the_nearest_mean_colour_finds_the_class_of_at_most_half_the_crops(world: World) -> None:
    by_subset = {
        subset: mean_colours(world, [p for p in world.photos() if p["subset"] == subset])
        for subset in ("train", "test")
    }
    train, test = by_subset["train"], by_subset["test"]
    assert set(train[1]) == set(test[1]) == set(range(10))
    assert len(test[1]) > 150
    assert 0.05 < nearest_centroid_score(train, test) <= 0.5


def test_the_classifier_itself_finds_classes_that_do_differ_in_colour() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    colours = labels[:, None] * 25 + rng.normal(0, 3, (200, 3))
    halves = (colours[:100], labels[:100]), (colours[100:], labels[100:])
    assert nearest_centroid_score(*halves) > 0.95
