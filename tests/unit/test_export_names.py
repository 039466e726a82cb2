"""Folder names that any file system takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from croplake.export.names import folder_names

MARK = "-[0-9a-f]{8}"


@pytest.mark.parametrize(
    ("category", "folder"),
    [
        (".", f"category{MARK}"),
        ("..", f"category{MARK}"),
        (".hidden", f"hidden{MARK}"),
        ("__special__", f"special{MARK}"),
        ("Etc.", f"Etc{MARK}"),
        ("a:b*c", f"a_b_c{MARK}"),
        ("50%?#", f"50{MARK}"),
        ("con", f"category con{MARK}"),
        ("Lpt1.fish", f"category Lpt1.fish{MARK}"),
        ("Apple-0123abcd", f"Apple-0123abcd{MARK}"),
        ("x\u200by", f"x_y{MARK}"),
        ("ü" * 100, f"{'ü' * 60}{MARK}"),
    ],
)
def test_an_odd_name_becomes_a_safe_one_with_a_mark(category: str, folder: str) -> None:
    assert re.fullmatch(folder, folder_names([category])[category])


def test_plain_names_stay_what_they_are_and_so_does_their_order() -> None:
    names = ["Apple", "Coffee cup", "Hot dog & bun", "Vélo", "日本"]
    assert list(folder_names(names).values()) == names == sorted(names)


def test_names_that_differ_only_in_case_or_in_their_accents_code_are_all_marked() -> None:
    names = ["Apple", "apple", "Vélo", "Ve\u0301lo", "Pear"]
    folders = folder_names(names)
    assert folders["Pear"] == "Pear"
    marked = [folder for name, folder in folders.items() if name != "Pear"]
    assert all(re.search(f"{MARK}$", folder) for folder in marked)
    assert len({folder.casefold() for folder in marked}) == 4
    assert folder_names(reversed(names)) == folders


@given(st.sets(st.text(min_size=1, max_size=100), max_size=8))
def test_whatever_the_categories_their_folders_are_distinct_and_within_bounds(
    categories: set[str],
) -> None:
    names = {name for name in categories if name.encode(errors="ignore").decode() == name}
    folders = folder_names(names).values()
    assert len({folder.casefold() for folder in folders}) == len(names)
    for folder in folders:
        assert not re.search(r'[/\\<>:"|?*\x00-\x1f]|^[._ ]|[. ]$', folder)
        assert 0 < len(folder.encode()) <= 255
