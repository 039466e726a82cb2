"""A training that breaks off leaves what the same command goes on from, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Never

import pytest
from pyspark.sql import SparkSession

from croplake import storage
from croplake import tables as t
from croplake.conf import LakeConf, Settings, TrainConf
from croplake.errors import IncompleteError
from croplake.jobs import train_classifier
from croplake.jobs.context import JobContext
from croplake.jobs.select_boxes import dataset_labels
from croplake.training import workers
from tests.jobs.conftest import WholeWay
from tests.jobs.small_lake import MODEL_ID, SmallLake
from tests.jobs.world import rows_of, run
from tests.spark.test_training_restarts import kill_worker


@pytest.mark.full
def test_the_same_command_goes_on_after_the_last_epoch_of_a_run_that_broke_off(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "launch": "processes",
        "max_attempts": 1,
        "seed": 18,
        "phases": [{"trainable": "all", "epochs": 3}],
    }
    train = TrainConf.model_validate(whole_way.settings.train.model_dump() | changes)
    root = tmp_path / "lake"
    shutil.copytree(whole_way.settings.lake.root, root)
    lake = LakeConf(root=str(root))
    settings = whole_way.settings.model_copy(update={"train": train, "lake": lake})
    epochs: list[float] = []
    kills = [2.0]

    def follow(context: JobContext, record: dict[str, float]) -> None:
        epochs.append(record["epoch"])
        if record["epoch"] in kills:
            kills.clear()
            kill_worker(0)

    monkeypatch.setattr(train_classifier, "_print_epoch", follow)
    with pytest.raises(IncompleteError, match="run the same command again: it goes on after epoch"):
        run(spark, "train_classifier", settings)
    assert list((root / "checkpoints").iterdir())
    context = run(spark, "train_classifier", settings)
    assert epochs == [1, 2, 1, 2, 3]
    assert context.counts["epochs"] == 3
    assert not list((root / "checkpoints").iterdir())
    assert (root / "models" / str(context.model_id) / "model.keras").exists()
    outcomes = [r[t.OUTCOME] for r in rows_of(settings, "runs") if r[t.JOB] == "train_classifier"]
    assert sorted(outcomes) == ["done", "done", "incomplete"]


@pytest.fixture
def checkpoint_dirs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where trainings would keep their checkpoints: they break off while a model is written."""
    asked: list[str] = []

    def break_off(*_: object, output_dir: str, checkpoint_dir: str, **others: object) -> Never:
        asked.append(checkpoint_dir)
        storage.write_bytes(storage.join(output_dir, "labels.json"), b"[]")
        raise IncompleteError("worker 0 ended")

    monkeypatch.setattr(workers, "train_distributed", break_off)
    return asked


def break_off(small: SmallLake, **train: object) -> None:
    conf = small.settings.train.model_copy(update=train)
    settings: Settings = small.settings.model_copy(update={"train": conf})
    with pytest.raises(IncompleteError, match="worker 0 ended"):
        run(small.spark, "train_classifier", settings)


def test_the_part_of_a_model_that_was_written_goes_with_its_training(
    small: SmallLake, checkpoint_dirs: list[str]
) -> None:
    models = small.folder / "models"
    before = {folder.name for folder in models.iterdir()}
    assert MODEL_ID in before
    break_off(small)
    assert len(checkpoint_dirs) == 1
    assert {folder.name for folder in models.iterdir()} == before


def test_a_training_reads_the_examples_of_its_start_whatever_is_built_meanwhile(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[workers.Examples, str]] = []

    def break_off(
        _: object, __: object, examples: workers.Examples, *, checkpoint_dir: str, **___: object
    ) -> Never:
        asked.append((examples, checkpoint_dir))
        raise IncompleteError("worker 0 ended")

    def build_meanwhile(context: JobContext) -> list[str]:
        small.add(t.EXAMPLES, small.example("a1", "others"), small.example("a2"))
        return list(dataset_labels(context))

    monkeypatch.setattr(workers, "train_distributed", break_off)
    before = small.lake.reader.files(
        t.EXAMPLES.name, partition={t.DATASET: "fruit", t.SPLIT: "train"}
    )
    with monkeypatch.context() as patch:
        patch.setattr(train_classifier, "dataset_labels", build_meanwhile)
        with pytest.raises(IncompleteError):
            run(small.spark, "train_classifier", small.settings)
    assert asked[0][0].train_files == before
    # Other examples are another training; those of another dataset beside these are not.
    for _ in range(2):
        with pytest.raises(IncompleteError):
            run(small.spark, "train_classifier", small.settings)
        small.add(t.EXAMPLES, small.example("b1", "others"))
    first, second, third = (key for _, key in asked)
    assert first != second
    assert second == third


def test_another_file_of_weights_in_the_same_place_is_another_training(
    small: SmallLake, checkpoint_dirs: list[str], tmp_path: Path
) -> None:
    weights = tmp_path / "mine.keras"
    for content in (b"one", b"one", b"two"):
        weights.write_bytes(content)
        break_off(small, weights=str(weights))
    weights.unlink()
    break_off(small, weights=str(weights))
    first, again, other, missing = checkpoint_dirs
    assert first == again
    assert len({first, other, missing}) == 3
