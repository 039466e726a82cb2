from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from croplake import tables as t
from croplake.cli import main
from croplake.errors import InputDataError
from croplake.jobs import evaluate_classifier
from croplake.jobs.embed_crops import Piece, Source, name_crops, pieces_of
from croplake.jobs.probe_baseline import SameExamples, evaluated_model, probe_baseline
from croplake.jobs.way import run_job
from croplake.report.measures import file_key
from tests.html_page import parse_page
from tests.jobs.probed_lake import (
    BROKEN,
    MODEL_ID,
    NUM_EACH,
    ProbedLake,
    add_model,
    box_id_of,
    colour_of,
    crop_of,
    example_of,
    probe,
    save_network,
    with_changes,
)
from tests.jobs.small_lake import SmallLake
from tests.jobs.world import rows_of


def test_every_crop_of_an_example_has_its_vector_and_what_does_not_decode_is_told(
    first_probed: ProbedLake,
) -> None:
    small, context, said = first_probed.small, first_probed.context, first_probed.said
    rows = {row[t.BOX_ID]: row for row in rows_of(small.settings, "embeddings")}
    assert sorted(rows) == [box_id_of(number) for number in range(2 * NUM_EACH)]
    for number in range(2 * NUM_EACH):
        row = rows[box_id_of(number)]
        expected = np.array(colour_of(number)) / 255
        np.testing.assert_allclose(row[t.VECTOR], expected, atol=0.01)
        assert row[t.RECIPE_ID] == small.crop("a1")[t.RECIPE_ID]
        assert row[t.RUN_ID] == context.run_id
        assert row[t.NETWORK].startswith("file:")
        assert row[t.NETWORK].endswith(" model.keras 32")
    assert "1 crops have no vector: they do not decode" in said
    assert f"(box {BROKEN})" in said
    assert {row[t.NETWORK_DIGEST] for row in rows.values()} == {
        next(iter(rows.values()))[t.NETWORK_DIGEST]
    }
    assert context.lake.version(t.EMBEDDINGS) >= 2, "several commits"


def test_the_figures_are_of_the_whole_test_split_and_go_to_evaluations(
    first_probed: ProbedLake,
) -> None:
    small, context, said = first_probed.small, first_probed.context, first_probed.said
    rows = rows_of(small.settings, "evaluations")
    assert {row[t.MODEL_ID] for row in rows} == {f"probe-{context.run_id}"}
    assert {(row[t.DATASET], row[t.SPLIT]) for row in rows} == {("fruit", "test")}
    overall = {row[t.METRIC]: row[t.VALUE] for row in rows if row[t.CATEGORY] is None}
    assert overall["top1"] == 1.0
    assert overall["num_examples"] == 2
    assert overall["num_unscored"] == 1
    (run,) = [row for row in rows_of(small.settings, "runs") if row[t.JOB] == "probe_examples"]
    assert run[t.OUTCOME] == "done"
    assert run[t.DETAIL].endswith("model.keras 32")
    assert dict(run[t.TABLES_WRITTEN]).keys() == {"embeddings", "evaluations"}
    assert dict(run[t.COUNTS])["vectors made"] == 12
    assert "the baseline that a full training must beat: test top-1 100.00% (2 examples, 1 mo" in (
        said
    )


def test_only_what_is_missing_is_made(probed: SmallLake) -> None:
    missing = {box_id_of(0), box_id_of(3)}  # one of each split of the others
    probed.lake.delete(t.EMBEDDINGS, "box_id in ('{}', '{}')".format(*missing))
    crops = [row for row in rows_of(probed.settings, "crops") if row[t.BOX_ID] != BROKEN]
    others = [
        example_of(probed, crop, split, "others")
        for crop, split in zip(crops, ["train", "test"] * NUM_EACH, strict=True)
    ]
    probed.add(t.EXAMPLES, *others)
    spec = probed.settings.dataset.model_copy(update={"name": "others"})
    context, _ = probe(probed, probed.settings.model_copy(update={"dataset": spec}))
    assert context.counts["vectors at hand"] == 2 * NUM_EACH - 2
    assert context.counts["vectors made"] == 2
    after = rows_of(probed.settings, "embeddings")
    assert {row[t.BOX_ID] for row in after if row[t.RUN_ID] == context.run_id} == missing
    assert Counter(row[t.BOX_ID] for row in after).most_common(1)[0][1] == 1
    assert len(after) == 2 * NUM_EACH


def test_crops_that_are_no_example_have_vectors_too_unless_the_settings_leave_them(
    probed: SmallLake,
) -> None:
    crop = crop_of(probed, 3) | {t.IMAGE_ID: "e" * 16}
    others: dict[str, dict[str, Any]] = {
        "e" * 32: {},
        "e" * 31 + "0": {t.JPEG: b"torn"},
        "e" * 31 + "1": {t.RECIPE_ID: "another"},
        "e" * 31 + "2": {t.JPEG: None, t.HAS_CROP: False, t.STATUS: "not_found"},
    }
    probed.add(t.CROPS, *(crop | {t.BOX_ID: box_id} | odd for box_id, odd in others.items()))
    context, _ = probe(probed, with_changes(probed.settings, "probe", crops="examples"))
    assert context.counts["vectors made"] == 0
    context, said = probe(probed)
    assert context.counts["vectors made"] == 1
    assert context.counts["vectors at hand"] == 2 * NUM_EACH
    assert context.counts["crops without a vector"] == 2  # one is an example
    assert f"(box {'e' * 31}0)" in said
    assert said.index("the baseline that") < said.index(f"(box {'e' * 31}0)"), "it comes first"
    (row,) = [row for row in rows_of(probed.settings, "embeddings") if row[t.IMAGE_ID] == "e" * 16]
    assert row[t.BOX_ID] == "e" * 32
    np.testing.assert_allclose(row[t.VECTOR], np.array(colour_of(3)) / 255, atol=0.01)
    assert context.counts["test examples"] == 2, "it is no example"


def test_the_missing_crops_of_many_files_are_named_by_one_spark_job(spark: SparkSession) -> None:
    missing = spark.createDataFrame(
        [("a", 1), ("b", 2), ("c", 2), ("d", 3)], "box_id string, file_key long"
    )
    pieces = [
        Piece(path, t.JPEG, groups, num, key)
        for path, groups, num, key in (("1", [0], 1, 1), ("2", [0, 1], 2, 2), ("3", [0], 1, None))
    ]
    spark.sparkContext.setJobGroup("named", "")
    try:
        named = name_crops(pieces, missing)
    finally:
        spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
    assert {piece[t.PATH]: piece["box_ids"] for piece in named} == {
        "1": ["a"],
        "2": ["b", "c"],
        "3": None,
    }
    assert len(spark.sparkContext.statusTracker().getJobIdsForGroup("named")) == 1


def test_crops_of_files_whose_names_have_one_key_are_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    names = ("part-c50963c80102.parquet", "part-d3f504638284.parquet")
    alone = "part-000000.parquet"
    assert file_key(names[0]) == file_key(names[1]) != file_key(alone)
    for name in (*names, alone):
        table = pa.table({t.BOX_ID: ["a", "b"], t.JPEG: [b"", b""]})
        pq.write_table(table, tmp_path / name)
    # Two of one file, or one of each: their sum is that of a whole file.
    rows = [(box_id, file_key(name)) for name, box_id in zip(names, "ab", strict=True)]
    rows += [(box_id, file_key(alone)) for box_id in "cd"]
    missing = spark.createDataFrame(rows, "box_id string, file_key long")
    files = [str(tmp_path / name) for name in (*names, alone)]
    pieces = pieces_of(Source(missing, files, t.JPEG), missing)
    named = [piece["box_ids"] for piece in name_crops([*pieces], missing)]
    assert named == [["a", "b"], ["a", "b"], None]


@pytest.mark.full
def test_another_network_has_vectors_of_its_own_and_a_probe_names_the_last(
    probed: SmallLake, tmp_path: Path
) -> None:
    older = rows_of(probed.settings, "evaluations")
    version = probed.lake.version(t.EXAMPLES)
    same = SameExamples(probed.lake.reader, "fruit", version)
    first = probe_baseline(same, "test")
    assert first is not None
    assert first.top1 == 1.0
    network = save_network(tmp_path / "brighter", scale=1 / 100)
    probe(probed, with_changes(probed.settings, "probe", network=network))
    rows = rows_of(probed.settings, "embeddings")
    assert Counter(row[t.NETWORK_DIGEST] for row in rows).most_common() == [
        (rows[0][t.NETWORK_DIGEST], 12),
        (rows[-1][t.NETWORK_DIGEST], 12),
    ]
    last = probe_baseline(same, "test")
    assert last is not None
    assert last.network != first.network
    assert len(rows_of(probed.settings, "evaluations")) == 2 * len(older)
    assert probe_baseline(same, "validation") is None
    assert probe_baseline(replace(same, dataset="pears"), "test") is None
    probed.put(t.EXAMPLES, *rows_of(probed.settings, "examples")[:1])
    assert probe_baseline(replace(same, version=version + 1), "test") is None


@pytest.mark.full
def test_an_evaluated_model_of_the_same_examples_is_printed_beside_it(probed: SmallLake) -> None:
    add_model(probed, probed.lake.version(t.EXAMPLES))
    console = Console(file=io.StringIO(), width=300, record=True)
    run_job(probed.spark, evaluate_classifier.JOB, probed.settings, console)
    (network,) = {row[t.NETWORK] for row in rows_of(probed.settings, "embeddings")}
    baseline = f"baseline, linear on {network}: test top-1 100.00% (the model: +0.00 points)"
    assert baseline in console.export_text().splitlines()
    page = parse_page((probed.folder / "reports" / f"{MODEL_ID}_test.html").read_text())
    names, values = ([e.text for e in page.all(tag)] for tag in ("dt", "dd"))
    on_page = dict(zip(names, values, strict=True))
    assert on_page[f"baseline's top-1: linear on {network}"] == "100.00%"
    assert on_page["top-1 over the baseline, in points"] == "+0.00"
    _, said = probe(probed, with_changes(probed.settings, "probe", network=MODEL_ID))
    assert f"linear on model:{MODEL_ID}" in said
    (beside,) = [line for line in said.splitlines() if f"│ {MODEL_ID} " in line]
    assert "100.00%" in beside
    assert "no baseline, for the network has learned from these examples: test top-1" in said
    same = SameExamples(probed.lake.reader, "fruit", probed.lake.version(t.EXAMPLES))
    assert probe_baseline(same, "test") == (network, 1.0)


def test_figures_of_a_model_on_another_version_of_the_examples_are_not_those_of_this_one(
    probed: SmallLake,
) -> None:
    version = probed.lake.version(t.EXAMPLES)
    add_model(probed, version)
    same = SameExamples(probed.lake.reader, "fruit", version)
    probed.put(t.EXAMPLES, *rows_of(probed.settings, "examples"))
    key = {t.MODEL_ID: MODEL_ID, t.DATASET: "fruit", t.SPLIT: "test", t.METRIC: "top1"}
    told = {"v1": (version, 0.5), "v2": (version, 0.75), "v3": (version + 1, 1.0)}
    for run_id, (read, top1) in told.items():
        changes = {t.TABLES_READ: {"examples": read}, t.MODEL_ID: MODEL_ID}
        probed.add(t.RUNS, probed.run(run_id, "evaluate_classifier", **changes))
        probed.add(t.EVALUATIONS, key | {t.RUN_ID: run_id, t.VALUE: top1})
    assert evaluated_model(same, "test") == (MODEL_ID, {"top1": 0.75})
    # Another dataset that is built beside it leaves the rows of this one as they are.
    probed.add(t.EXAMPLES, probed.example("a1", "others"))
    later = replace(same, version=probed.lake.version(t.EXAMPLES))
    assert evaluated_model(later, "test") is None
    add_model(probed, later.version - 1)
    assert evaluated_model(later, "test") == (MODEL_ID, {"top1": 1.0})


def test_without_examples_to_learn_from_or_to_measure_on_the_split_is_named(
    probed: SmallLake,
) -> None:
    spec = probed.settings.dataset.model_copy(update={"name": "nothing"})
    with pytest.raises(InputDataError, match="no example in its split test nor train"):
        probe(probed, probed.settings.model_copy(update={"dataset": spec}))
    probed.lake.delete(t.EXAMPLES, "split = 'test'")
    with pytest.raises(InputDataError, match="no example in its split test;"):
        probe(probed)


def test_a_split_that_is_too_large_is_drawn_from_and_always_alike(probed: SmallLake) -> None:
    settings = with_changes(probed.settings, "probe", max_examples=4)
    counts = [probe(probed, settings)[0].counts["train examples"] for _ in range(2)]
    assert counts[0] == counts[1]
    assert 0 < counts[0] < 8


@pytest.mark.full
def test_forgotten_photos_have_no_vector_and_the_lake_is_whole(
    probed: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    (gone, *_) = rows_of(probed.settings, "embeddings")
    assert main(["lake", "check", "--conf", probed.conf]) == 0
    assert main(["lake", "forget", "--conf", probed.conf, "--vacuum", gone[t.IMAGE_ID]]) == 0
    left = rows_of(probed.settings, "embeddings")
    assert {row[t.BOX_ID] for row in left} == {
        box_id_of(number) for number in range(2 * NUM_EACH)
    } - {gone[t.BOX_ID]}
    assert main(["lake", "check", "--conf", probed.conf]) == 0
    capsys.readouterr()
    probed.add(t.EMBEDDINGS, gone | {t.VECTOR: [1.0, float("nan"), 1.0]})
    probed.add(t.EMBEDDINGS, left[0] | {t.VECTOR: [1.0, 1.0]})
    assert main(["lake", "check", "--conf", probed.conf]) == 4
    said = capsys.readouterr().err
    assert "3 of" in said
    for name in ("one_vector_per_crop", "vectors", "forgotten_rows"):
        assert name in said
