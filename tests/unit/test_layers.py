"""The three layers stay apart: executor code knows no Spark, the driver no TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import pytest


def modules_after_importing(module: str) -> set[str]:
    code = f"import sys, {module}; print(' '.join(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "croplake.catalog.blocks",
        "croplake.fetching.batches",
        "croplake.inference.task",
        "croplake.inference.examples",
        "croplake.inference.embedding",
        "croplake.examples.look_alikes",
        "croplake.care.photo_files",
        "croplake.care.pictures",
        "croplake.report.thumbnails",
        "croplake.export.task",
        "croplake.export.notices",
        "croplake.model_export.process",
    ],
)
def test_executor_code_imports_no_pyspark(module: str) -> None:
    assert "pyspark" not in modules_after_importing(module)


def test_the_driver_loads_no_tensorflow() -> None:
    assert "tensorflow" not in modules_after_importing("croplake.jobs.way")


def test_settings_are_checked_without_loading_spark() -> None:
    assert "pyspark" not in modules_after_importing("croplake.cli")
