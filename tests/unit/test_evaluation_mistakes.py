"""How far off mistakes are, over a hierarchy small enough to see."""

from __future__ import annotations

import math

import numpy as np

from croplake.catalog.classes import ClassEntry
from croplake.evaluation.mistakes import NO_PATH, category_distances, measure_mistakes

ROOT = "/m/root"
CLASSES = [
    ClassEntry("/m/fruit", "Fruit", (ROOT,)),
    ClassEntry("/m/apple", "Apple", ("/m/fruit",)),
    ClassEntry("/m/pear", "Pear", ("/m/fruit",)),
    ClassEntry("/m/vehicle", "Vehicle", (ROOT,)),
    ClassEntry("/m/car", "Car", ("/m/vehicle",)),
    ClassEntry("/m/toycar", "Toy car", ("/m/car", "/m/toy")),
    ClassEntry("/m/toy", "Toy", (ROOT,)),
    ClassEntry("/m/island", "Island", ()),
]
NAMES = {entry.name: [entry.mid] for entry in CLASSES}


def steps(one: str, other: str, **categories: list[str]) -> int:
    names = NAMES | categories
    return int(category_distances(CLASSES, names, [one, other])[0, 1])


def test_the_shortest_way_goes_up_and_down_and_over_the_root() -> None:
    assert steps("Apple", "Apple") == 0
    assert steps("Apple", "Fruit") == 1
    assert steps("Apple", "Pear") == 2
    assert steps("Apple", "Car") == 4
    assert steps("Toy car", "Vehicle") == 2
    assert steps("Toy car", "Fruit") == 3  # by its nearer parent


def test_of_a_category_of_several_classes_the_nearest_counts() -> None:
    mixed = {"Mixed": ["/m/pear", "/m/car"]}
    assert steps("Mixed", "Apple", **mixed) == 2
    assert steps("Mixed", "Toy car", **mixed) == 1
    assert steps("Apple", "Mixed", **mixed) == 2


def test_there_is_no_way_to_what_stands_alone_or_is_not_in_the_catalog() -> None:
    assert steps("Apple", "Island") == NO_PATH
    assert steps("Apple", "Gone", Gone=["/m/gone"]) == NO_PATH
    assert steps("Apple", "Never heard of") == NO_PATH
    assert steps("Gone", "Gone", Gone=["/m/gone"]) == NO_PATH


def test_distances_are_the_same_there_and_back() -> None:
    found = category_distances(CLASSES, NAMES, [*NAMES])
    assert (found == found.T).all()
    assert (found.diagonal() == 0).all()


def test_mistakes_are_counted_by_distance_and_hits_are_none() -> None:
    names = ["Apple", "Pear", "Car", "Island"]
    confusion = np.array([[90, 3, 2, 1], [0, 50, 0, 0], [1, 0, 0, 0], [0, 0, 0, 7]])
    found = measure_mistakes(confusion, category_distances(CLASSES, NAMES, names))
    assert found.counts == {2: 3, 4: 3}
    assert found.num_without_path == 1
    assert found.mean == 3.0


def test_without_a_mistake_there_is_no_mean() -> None:
    found = measure_mistakes(np.diag([3, 4]), category_distances(CLASSES, NAMES, ["Apple", "Pear"]))
    assert found.counts == {}
    assert math.isnan(found.mean)
