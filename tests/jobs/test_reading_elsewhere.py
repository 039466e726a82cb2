"""The tables as other tools read them, and as croplake's own reader does without Spark."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from croplake import open_lake
from croplake import tables as t
from croplake.errors import InputDataError
from tests.jobs.conftest import WholeWay
from tests.jobs.world import rows_of
from tests.readers.read_lake import summary

READERS = Path("build/readers/bin/python")
KEYS = ("crops", "examples")


def expected(way: WholeWay) -> dict[str, Any]:
    crops = rows_of(way.settings, "crops")
    examples = rows_of(way.settings, "examples")
    return {
        "crops": summary([(row[t.BOX_ID], row[t.STATUS], row[t.JPEG]) for row in crops]),
        "examples": summary([(row[t.EXAMPLE_ID], row[t.SPLIT], row[t.IMAGE]) for row in examples]),
    }


@pytest.mark.parametrize("tool", ["delta-rs", "pandas", "polars", "duckdb"])
def test_todays_tools_read_the_same_rows(
    tool: str,
    seen_elsewhere: dict[str, Any],
    whole_way: WholeWay,
) -> None:
    assert {name: seen_elsewhere[name][tool] for name in KEYS} == expected(whole_way)


@pytest.fixture(scope="module")
def seen_elsewhere(whole_way: WholeWay, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    assert READERS.exists(), "make test makes the readers' environment in build/readers"
    # delta-rs hands Polars a root with odd characters percent-encoded, and no file is there.
    plain = tmp_path_factory.mktemp("readers") / "lake"
    shutil.copytree(whole_way.settings.lake.root, plain)
    command = [str(READERS), "tests/readers/read_lake.py", str(plain)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_croplakes_reader_needs_no_spark_and_gives_tables_versions_and_datasets(
    whole_way: WholeWay,
) -> None:
    code = (
        "import sys, croplake\n"
        f"lake = croplake.open_lake({whole_way.settings.lake.root!r})\n"
        "crops = lake.dataset('crops').to_table(columns=['box_id', 'has_crop', 'recipe_id'])\n"
        "print([info.name for info in lake.tables()], crops.num_rows)\n"
        "print([name for name in ('pyspark', 'tensorflow') if name in sys.modules])\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    lake = open_lake(whole_way.settings.lake.root)
    names = [info.name for info in lake.tables()]
    rows = lake.info("crops").rows
    assert answer.stdout.splitlines() == [f"{names} {rows}", "[]"]


def test_a_dataset_has_its_partition_columns_and_filters_by_them(whole_way: WholeWay) -> None:
    lake = open_lake(whole_way.settings.lake.root)
    dataset = lake.dataset("examples")
    assert dataset.schema.equals(t.EXAMPLES.schema)
    tests = dataset.to_table(filter=pc.field(t.SPLIT) == "test")
    assert tests.num_rows == sum(
        row[t.SPLIT] == "test" for row in rows_of(whole_way.settings, "examples")
    )


def test_an_older_version_stays_readable_and_a_missing_one_is_named(whole_way: WholeWay) -> None:
    lake = open_lake(whole_way.settings.lake.root)
    first = lake.dataset("runs", version=0).to_table()
    assert first.num_rows == 1
    assert lake.info("runs").rows > 1
    with pytest.raises(InputDataError, match="version 99 cannot be read"):
        lake.dataset("runs", version=99)
    with pytest.raises(InputDataError, match="no table is named cropz; there are classes"):
        lake.files("cropz")
