"""Picking classes: by hand on a small hierarchy, by rule on the real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from croplake.catalog.classes import ClassEntry, parse_classes, parse_parents
from croplake.catalog.hierarchy import Hierarchy
from croplake.catalog.picker import ClassChoice, Overlap, pick_classes
from croplake.errors import SettingsError
from croplake.miniature.csvs import CLASSES_FILE, HIERARCHY_FILE, data_file

#     Vehicle          Sports equipment      Food
#       Land vehicle     |      Ball           Sandwich
#         Bicycle -------+      Flying disc      Submarine sandwich
#         Motorcycle                           Ice cream (no boxes)
CLASSES = [
    ClassEntry("/m/v", "Vehicle", (), {"train": 1}),
    ClassEntry("/m/lv", "Land vehicle", ("/m/v",), {"train": 1}),
    ClassEntry("/m/b", "Bicycle", ("/m/lv", "/m/s"), {"train": 5}),
    ClassEntry("/m/mc", "Motorcycle", ("/m/lv",), {"train": 5}),
    ClassEntry("/m/s", "Sports equipment", ("/m/root",), {"train": 0, "test": 2}),
    ClassEntry("/m/ball", "Ball", ("/m/s",), {"train": 1}),
    ClassEntry("/m/fd", "Flying disc", ("/m/s",), {"train": 1}),
    ClassEntry("/m/f", "Food", (), {"train": 1}),
    ClassEntry("/m/sw", "Sandwich", ("/m/f",), {"train": 1}),
    ClassEntry("/m/ss", "Submarine sandwich", ("/m/sw",), {"train": 1}),
    ClassEntry("/m/ic", "Ice cream", ("/m/f",), {"train": 0}),
]


def pick(
    *classes: str,
    exclude: tuple[str, ...] = (),
    on_overlap: Overlap = "error",
    **categories: list[str],
) -> dict[str, str]:
    """MID's last part to category."""
    choice = ClassChoice(classes, exclude, categories, on_overlap)
    found = pick_classes(choice, CLASSES)
    return {mid.removeprefix("/m/"): category for mid, category in found.items()}


def error_of(*classes: str, **more: Any) -> str:  # noqa: ANN401
    with pytest.raises(SettingsError) as error:
        pick(*classes, **more)
    return str(error.value)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["sandWICH"], {"sw": "Sandwich"}),
        (["  Land Vehicle "], {"lv": "Land vehicle"}),
        (["/M/Ball"], {"ball": "Ball"}),
        (["*sandwich*"], {"sw": "Sandwich", "ss": "Submarine sandwich"}),
        (["?all"], {"ball": "Ball"}),
        (["Ball", "/m/ball", "ba*"], {"ball": "Ball"}),
        (["sandwich/**"], {"sw": "Sandwich", "ss": "Submarine sandwich"}),
        (["/m/sw/**"], {"sw": "Sandwich", "ss": "Submarine sandwich"}),
        (["Motorcycle/**"], {"mc": "Motorcycle"}),
    ],
)
def test_classes_are_found_by_name_mid_glob_and_subtree(
    wanted: list[str], found: dict[str, str]
) -> None:
    assert pick(*wanted) == found


def test_a_class_of_two_parents_lies_below_both() -> None:
    assert set(pick("Vehicle/**")) == {"v", "lv", "b", "mc"}
    assert set(pick("Sports equipment/**")) == {"s", "b", "ball", "fd"}


def test_all_is_every_class_with_a_box_in_any_subset() -> None:
    assert set(pick("all")) == {entry.mid.removeprefix("/m/") for entry in CLASSES} - {"ic"}
    assert set(pick("ALL", exclude=("Vehicle/**", "*a*"))) == {"f", "s", "fd"}


def test_categories_stand_in_alphabetical_order() -> None:
    categories = list(pick("all", wheels=["Bicycle"], on_overlap="first").values())
    assert categories == sorted(categories)


def test_own_categories_merge_classes() -> None:
    found = pick("Ball", two_wheeler=["bicycle", "/m/mc"], food=["*sandwich*"])
    assert found == {
        "ball": "Ball",
        "sw": "food",
        "ss": "food",
        "b": "two_wheeler",
        "mc": "two_wheeler",
    }


def test_what_is_excluded_is_left_out_of_own_categories_too() -> None:
    assert pick(exclude=("Bicycle",), wheels=["Land vehicle/**"]) == {
        "lv": "wheels",
        "mc": "wheels",
    }


def test_a_class_named_twice_for_the_same_category_is_no_overlap() -> None:
    assert pick("Bicycle", Bicycle=["Bicycle", "Motorcycle"]) == {"b": "Bicycle", "mc": "Bicycle"}


def test_a_class_of_two_categories_is_an_error_that_names_both() -> None:
    message = error_of("Vehicle/**", two_wheeler=["Bicycle"])
    assert (
        'class Bicycle falls into two categories: "two_wheeler" (categories.two_wheeler: Bicycle) '
        'and "Bicycle" (classes: Vehicle/**)'
    ) in message
    assert "dataset.on_overlap: first or most_specific" in message
    assert "Motorcycle" not in message


def test_the_first_category_may_win_and_own_ones_come_first() -> None:
    all_of_it, some = ["Vehicle/**"], ["Bicycle", "Ball"]
    assert pick("Bicycle", on_overlap="first", a=all_of_it, b=some)["b"] == "a"
    assert pick("Bicycle", on_overlap="first", b=some, a=all_of_it)["b"] == "b"


@pytest.mark.parametrize(
    ("close", "far"),
    [
        ("Bicycle", "Land vehicle/**"),
        ("/m/b", "Bicycle/**"),
        ("Land vehicle/**", "Vehicle/**"),
        ("Vehicle/**", "*cycle"),
        ("*cycle", "all"),
    ],
)
def test_the_most_specific_category_may_win(close: str, far: str) -> None:
    close_ones, far_ones = [close, "Food"], [far, "Flying disc"]
    assert pick(x=close_ones, y=far_ones, on_overlap="most_specific")["b"] == "x"
    assert pick(x=far_ones, y=close_ones, on_overlap="most_specific")["b"] == "y"


def test_the_closest_of_a_categorys_patterns_counts() -> None:
    found = pick(x=["*cycle", "Bicycle"], y=["Land vehicle/**"], on_overlap="most_specific")
    assert (found["b"], found["mc"]) == ("x", "y")


def test_two_categories_that_are_equally_specific_are_an_error() -> None:
    message = error_of(a=["Land vehicle/**"], b=["Sports equipment/**"], on_overlap="most_specific")
    assert "class Bicycle falls into two categories, equally specifically" in message


def test_every_miss_is_told_with_names_that_may_have_been_meant() -> None:
    message = error_of("Sandwhich", "*zzz*", "Vehicel/**", exclude=("/m/nope",), x=["Bal"])
    assert 'no class matches "Sandwhich"; did you mean: Sandwich' in message
    assert 'no class matches "*zzz*"' in message
    assert 'no class matches "Vehicel/**"; did you mean: Vehicle' in message
    assert 'no class matches "/m/nope"\n' in message
    assert 'no class matches "/m/bell/**"; did you mean: /m/ball (Ball)?' in error_of("/m/bell/**")
    assert 'no class matches "Bal"; did you mean: Ball' in message


def test_a_category_whose_classes_are_all_excluded_is_an_error() -> None:
    assert 'category "x": no class of it is left' in error_of("Food", exclude=("Ball",), x=["Ball"])
    assert "no class is chosen" in error_of("Ball", exclude=("Ball",))


# --- the real class list, against a plain reading of the published JSON ---------------------------

NAMES = parse_classes(data_file(CLASSES_FILE).decode(), CLASSES_FILE)
TREE = json.loads(data_file(HIERARCHY_FILE))
PARENTS = parse_parents(data_file(HIERARCHY_FILE).decode(), HIERARCHY_FILE)
REAL = [ClassEntry(mid, name, PARENTS.get(mid, ())) for mid, name in NAMES.items()]


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Subcategory", []):
        yield from nodes(child)


def steps_by_hand(node: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Every label in a node's subtree, and how far down it is."""
    yield node["LabelName"], 0
    for child in node.get("Subcategory", []):
        yield from ((mid, steps + 1) for mid, steps in steps_by_hand(child))


def below_by_hand(mid: str) -> dict[str, int]:
    """The labels in the subtrees of every node that carries the label, the shortest way to each."""
    found = {mid: 0}
    for top in nodes(TREE):
        if top["LabelName"] == mid:
            for label, steps in steps_by_hand(top):
                found[label] = min(found.get(label, steps), steps)
    return found


def match_by_hand(pattern: str) -> dict[str, tuple[int, int]]:
    """The classes of a pattern, and how loosely it names each: by name, by subtree, by glob."""
    if pattern.endswith("/**"):
        (top,) = match_by_hand(pattern[:-3])
        return {mid: (1, steps) for mid, steps in below_by_hand(top).items()}
    if pattern in NAMES:
        return {pattern: (0, 0)}
    kind = 2 if "*" in pattern else 0
    fits = (mid for mid, name in NAMES.items() if fnmatchcase(name.lower(), pattern.lower()))
    return dict.fromkeys(fits, (kind, 0))


def settle_by_hand(claims: list[tuple[tuple[int, int], str]], on_overlap: Overlap) -> str | None:
    """The category of a class that patterns claim; None where that is an error."""
    of_category: dict[str, list[tuple[int, int]]] = {}
    for rank, category in claims:
        of_category.setdefault(category, []).append(rank)
    if on_overlap == "first" or len(of_category) == 1:
        return claims[0][1]
    if on_overlap == "error":
        return None
    best = min(rank for rank, _ in claims)
    winners = [category for category, ranks in of_category.items() if min(ranks) == best]
    return winners[0] if len(winners) == 1 else None


@pytest.mark.parametrize("mid", sorted(NAMES))
def test_what_lies_below_a_real_class_is_what_its_json_nests(mid: str) -> None:
    assert Hierarchy(REAL).below(mid) == below_by_hand(mid)


def test_every_way_down_to_a_real_class_is_in_its_json() -> None:
    hierarchy = Hierarchy(REAL)

    def ways(node: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for child in node.get("Subcategory", []):
            path = (*above, NAMES[child["LabelName"]])
            yield path
            yield from ways(child, path)

    expected = set(ways(TREE, ()))
    found = {path for mid in NAMES for path in hierarchy.paths(mid)}
    assert found == expected


TRAFFIC = ("Vehicle", "Land vehicle", "Car", "Limousine", "Van", "Watercraft", "Boat")
RELATED = [mid for mid, name in NAMES.items() if name in TRAFFIC]
"""Each below some of the others, so that drawn patterns often name the same classes."""


@st.composite
def patterns(draw: st.DrawFn) -> str:
    mid = draw(st.sampled_from(sorted(NAMES)) | st.sampled_from(RELATED))
    name = NAMES[mid]
    spelled = draw(st.sampled_from([name, name.upper(), name.lower(), mid]))
    kind = draw(st.sampled_from(["name", "subtree", "keyword"]))
    if kind == "keyword":
        start = draw(st.integers(0, len(name) - 1))
        return f"*{name[start : start + draw(st.integers(1, 6))].strip()}*"
    return spelled + ("/**" if kind == "subtree" else "")


@pytest.mark.parametrize("on_overlap", get_args(Overlap))
@settings(deadline=None, max_examples=150)
@given(
    classes=st.lists(patterns(), min_size=1, max_size=4),
    exclude=st.lists(patterns(), max_size=2),
    categories=st.dictionaries(
        st.sampled_from(["one", "two"]), st.lists(patterns(), min_size=1, max_size=2)
    ),
)
def test_any_mix_of_patterns_picks_what_a_plain_reading_of_the_hierarchy_does(
    on_overlap: Overlap,
    classes: list[str],
    exclude: list[str],
    categories: dict[str, list[str]],
) -> None:
    excluded = {mid for pattern in exclude for mid in match_by_hand(pattern)}
    wanted = [(pattern, category) for category, some in categories.items() for pattern in some]
    claims: dict[str, list[tuple[tuple[int, int], str]]] = {}
    for pattern, category in [*wanted, *((pattern, "") for pattern in classes)]:
        for mid, rank in match_by_hand(pattern).items():
            if mid not in excluded:
                claims.setdefault(mid, []).append((rank, category or NAMES[mid]))
    expected = {mid: settle_by_hand(found, on_overlap) for mid, found in claims.items()}
    settled = set(expected.values())
    choice = ClassChoice(classes, exclude, categories, on_overlap)
    if not settled or None in settled or set(categories) - settled:
        with pytest.raises(SettingsError):
            pick_classes(choice, REAL)
    else:
        assert pick_classes(choice, REAL) == expected
