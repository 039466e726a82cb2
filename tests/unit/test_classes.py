from __future__ import annotations

import pytest

from croplake.catalog.classes import parse_classes, parse_parents
from croplake.errors import InputDataError


def test_a_class_list_is_read_with_and_without_a_header() -> None:
    rows = '/m/1,Apple\n/m/2,"Pear, green"\n'
    expected = {"/m/1": "Apple", "/m/2": "Pear, green"}
    assert parse_classes(rows, "v5.csv") == expected
    assert parse_classes("LabelName,DisplayName\n" + rows, "v7.csv") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/m/1,Apple\nApple,/m/1\n", "c.csv:2: expected a MID"),
        ("/m/1,Apple\n/m/1,Pear\n", "c.csv:2: /m/1 stands twice"),
        ("LabelName,DisplayName\n", "c.csv: no classes"),
    ],
)
def test_a_wrong_class_list_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputDataError, match=message):
        parse_classes(text, "c.csv")


def test_parents_follow_subcategories_and_not_parts() -> None:
    hierarchy = """{"LabelName": "/m/0", "Subcategory": [
        {"LabelName": "/m/1", "Subcategory": [{"LabelName": "/m/3"}],
         "Part": [{"LabelName": "/m/4"}]},
        {"LabelName": "/m/2", "Subcategory": [{"LabelName": "/m/3"}]}]}"""
    assert parse_parents(hierarchy, "h.json") == {
        "/m/1": ("/m/0",),
        "/m/2": ("/m/0",),
        "/m/3": ("/m/1", "/m/2"),
    }


def test_a_wrong_hierarchy_is_refused_by_name() -> None:
    with pytest.raises(InputDataError, match=r"h\.json: not the class hierarchy"):
        parse_parents("[1]", "h.json")


def test_a_class_below_itself_is_refused_with_the_cycle() -> None:
    cycle = """{"LabelName": "/m/1", "Subcategory": [
        {"LabelName": "/m/2", "Subcategory": [{"LabelName": "/m/1"}]}]}"""
    with pytest.raises(InputDataError, match=r"h\.json: a class is below itself: /m/\d › /m/\d"):
        parse_parents(cycle, "h.json")
