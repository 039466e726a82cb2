"""Each check holds on an intact lake, and names what a hand breaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from delta.tables import DeltaTable
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage
from croplake import tables as t
from croplake.care.check import find_all
from croplake.care.check_files import FILE_CHECKS
from croplake.care.check_rows import ROW_CHECKS
from croplake.care.findings import Finding, Scope, look
from croplake.care.pins import find_readers, runs_of
from croplake.cli import main
from tests.jobs.small_lake import (
    FETCHED_AT,
    MODEL_ID,
    PHOTO_A,
    PHOTO_B,
    PHOTO_C,
    PHOTO_D,
    SmallLake,
)

CHECKS = {check.name: check for check in (*FILE_CHECKS, *ROW_CHECKS)}
LATER = FETCHED_AT.replace(hour=13)


def found(small: SmallLake, name: str) -> Finding:
    lake = small.lake
    runs = tuple(runs_of(lake))
    return look(CHECKS[name], Scope(small.spark, lake, find_readers(lake), runs, num_keys=4))


def recipe_of_crops(small: SmallLake) -> str:
    return str(small.crop("a1")[t.RECIPE_ID])


def forget_on_paper(small: SmallLake, image_id: str) -> None:
    """Notes a photo as forgotten, and does nothing else."""
    small.add(t.FORGOTTEN_PHOTOS, {t.IMAGE_ID: image_id, t.FORGOTTEN_AT: FETCHED_AT})


def test_every_check_holds_on_an_intact_lake(small: SmallLake) -> None:
    forget_on_paper(small, "f" * 16)
    vector = {t.NETWORK: "imagenet:X 32", t.NETWORK_DIGEST: "0" * 64, t.VECTOR: [1.0, 2.0]}
    small.add(t.EMBEDDINGS, small.crop("a1") | vector)
    findings = list(find_all(small.spark, str(small.folder), deep=True, num_keys=3))
    assert {finding.check.name: finding.num_broken for finding in findings} == dict.fromkeys(
        ["schema_version", "records", *CHECKS, "pictures"], 0
    )


@pytest.mark.full
def test_a_table_that_was_never_written_is_not_looked_at(small: SmallLake) -> None:
    findings = list(find_all(small.spark, str(small.folder), deep=False, num_keys=3))
    notes = {finding.check.name: finding.note for finding in findings if finding.note}
    forgotten = ["forgotten_files", "forgotten_rows"]
    embedded = ["one_vector_per_crop", "vectors"]
    assert notes == dict.fromkeys(forgotten, "forgotten_photos not written yet") | dict.fromkeys(
        embedded, "embeddings not written yet"
    )


def test_a_broken_lake_is_exit_code_4_and_json_is_all_that_is_printed(
    small: SmallLake, capfd: pytest.CaptureFixture[str]
) -> None:
    small.add(t.CROPS, *(small.crop(box_id) for box_id in ("a1", "a2", "b1")))
    capfd.readouterr()
    assert main(["lake", "check", "--conf", small.conf, "--json", "--keys", "2"]) == 4
    printed = capfd.readouterr()
    findings = {entry["check"]: entry for entry in json.loads(printed.out)}
    recipe_id = recipe_of_crops(small)
    assert findings["one_crop_per_box"]["holds"] is False
    assert findings["one_crop_per_box"]["broken"] == 3
    assert len(findings["one_crop_per_box"]["keys"]) == 2
    assert findings["one_crop_per_box"]["keys"][0].startswith(recipe_id)
    assert findings["catalog_keys"]["holds"] is True
    assert "2 of 20 checks are broken: one_crop_per_box, every_box_has_its_row" in printed.err
    assert main(["lake", "check", "--conf", small.conf, "--keys", "2"]) == 4
    printed = capfd.readouterr()
    assert "one_crop_per_box: no box has two crops under one recipe; but:" in printed.out
    assert "… 3 in all" in printed.out


@pytest.mark.parametrize("command", [["check"], ["maintain"], ["forget", "0" * 16]])
def test_where_no_lake_is_nothing_is_looked_at_made_or_noted(
    small: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    empty = ["--set", f"lake.root={tmp_path}/empty"]
    assert main(["lake", *command, "--conf", small.conf, *empty]) == 4
    assert "no lake is there" in capsys.readouterr().err
    assert not (tmp_path / "empty").exists()


def found_broken(small: SmallLake) -> dict[str, str]:
    findings = find_all(small.spark, str(small.folder), deep=False, num_keys=3)
    return {finding.check.name: finding.keys[0] for finding in findings if finding.is_broken}


def test_a_torn_commit_is_a_finding_not_the_end_of_the_check(small: SmallLake) -> None:
    log = small.folder / "examples" / "_delta_log"
    last = max(log.glob("*.json"))
    last.write_bytes(last.read_bytes()[:100])
    for checksum in log.glob("*.crc"):
        checksum.unlink()
    broken = found_broken(small)
    assert broken
    assert all(text.startswith("cannot be read: ") for text in broken.values())
    assert "one_crop_per_box" not in broken


def test_a_data_file_of_the_right_size_and_wrong_bytes_is_a_finding(small: SmallLake) -> None:
    file = next((small.folder / "boxes").rglob("*.parquet"))
    file.write_bytes(bytes(file.stat().st_size))
    for checksum in file.parent.glob(".*.crc"):
        checksum.unlink()
    assert "cannot be read: " in found_broken(small)["catalog_keys"]


@pytest.mark.full
def test_what_a_model_notes_is_a_finding_where_it_is_torn(small: SmallLake) -> None:
    (small.folder / "models" / MODEL_ID / "forgotten.json").write_text("{")
    assert found_broken(small).keys() == {"files"}


@pytest.mark.parametrize("number", ["-5", "0", "many"])
def test_keys_are_counted_from_one_on(
    small: SmallLake, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["lake", "check", "--conf", small.conf, f"--keys={number}"])
    assert ended.value.code == 2
    assert "is no whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "_lake.json is missing"),
        ("{", "_lake.json is no JSON object"),
        ('{"schema_version": 7}', "_lake.json says 7, this croplake knows 3"),
    ],
)
def test_a_wrong_marker_is_named_and_nothing_else_is_looked_at(
    small: SmallLake, text: str | None, says: str
) -> None:
    marker = small.folder / "_lake.json"
    marker.unlink()
    if text is not None:
        marker.write_text(text)
    (finding,) = find_all(small.spark, str(small.folder), deep=False, num_keys=3)
    assert finding.keys == (says,)


def test_another_column_or_partition_than_declared_is_named(small: SmallLake) -> None:
    table = f"delta.`{small.folder}/classes`"
    small.spark.sql(f"ALTER TABLE {table} ADD COLUMNS (colour STRING)")
    other = small.frame(t.SELECTED_BOXES).write.format("delta").partitionBy(t.SUBSET)
    other.mode("overwrite").option("overwriteSchema", "true").save(
        storage.for_spark(small.lake.path(t.SELECTED_BOXES))
    )
    assert found(small, "schemas").keys == (
        "classes.colour is string, declared not there",
        "selected_boxes is partitioned by ['subset'], declared ['dataset']",
    )


def test_a_table_of_another_schema_is_not_looked_into(small: SmallLake) -> None:
    folder = storage.for_spark(small.lake.path(t.BOXES))
    other = small.lake.read(t.BOXES).withColumn(t.BOX_ID, F.lit(1)).write.format("delta")
    other.mode("overwrite").option("overwriteSchema", "true").save(folder)
    findings = list(find_all(small.spark, str(small.folder), deep=False, num_keys=3))
    notes = {finding.check.name: finding.note for finding in findings}
    assert notes["catalog_keys"] == "boxes cannot be read"
    assert notes["one_crop_per_box"] is None


def test_deletion_vectors_and_column_mapping_are_named(small: SmallLake) -> None:
    for table, properties in {
        "classes": "'delta.enableDeletionVectors' = 'true'",
        "photos": "'delta.columnMapping.mode' = 'name', 'delta.minReaderVersion' = '2', "
        "'delta.minWriterVersion' = '5'",
    }.items():
        small.spark.sql(
            f"ALTER TABLE delta.`{small.folder}/{table}` SET TBLPROPERTIES ({properties})"
        )
    assert found(small, "plain_tables").keys == (
        "classes: deletion vectors are on",
        "photos: column mapping is on",
    )


def test_a_log_that_delta_would_cut_short_is_named_until_maintain_ends_that(
    small: SmallLake,
) -> None:
    small.spark.sql(
        f"ALTER TABLE delta.`{small.folder}/examples` "
        "UNSET TBLPROPERTIES ('delta.enableExpiredLogCleanup')"
    )
    assert found(small, "log_retention").keys == (
        "examples: Delta would drop old log entries; lake maintain ends that",
    )
    small.lake.keep_log(t.EXAMPLES)
    assert found(small, "log_retention").num_broken == 0


def test_a_lost_or_cut_file_is_named_with_who_reads_it(small: SmallLake) -> None:
    cut = next((small.folder / "photos").rglob("*.parquet"))
    size = cut.stat().st_size
    cut.write_bytes(cut.read_bytes()[:-1])
    old = next((small.folder / "examples" / "dataset=pears").rglob("*.parquet"))
    small.put(t.EXAMPLES, where="dataset = 'pears'")
    old.unlink()
    finding = found(small, "files")
    (pinned, current) = finding.keys
    path = old.relative_to(small.folder / "examples")
    assert pinned == f"examples version 1: {path} is missing (read by model {MODEL_ID})"
    name = cut.relative_to(small.folder / "photos")
    assert current == f"photos: {name} has {size - 1} bytes, its log says {size}"


def test_a_model_whose_folder_is_gone_reads_nothing(small: SmallLake) -> None:
    old = next((small.folder / "examples" / "dataset=pears").rglob("*.parquet"))
    small.put(t.EXAMPLES, where="dataset = 'pears'")
    old.unlink()
    storage.remove(f"{small.folder}/models/{MODEL_ID}")
    assert found(small, "files").num_broken == 0


def test_a_killed_run_is_named(small: SmallLake) -> None:
    small.add(t.RUNS, small.run("r9", "fetch_crops", outcome="running", ended_at=None))
    assert found(small, "runs_end").keys == (
        "fetch_crops r9: killed; croplake lake maintain ends its row",
    )


def test_an_old_file_with_a_forgotten_photo_is_named(small: SmallLake) -> None:
    forget_on_paper(small, PHOTO_A)
    for table in (t.CROPS, t.EXAMPLES):
        small.lake.delete(table, f"image_id = '{PHOTO_A}'")
    finding = found(small, "forgotten_files")
    assert finding.num_broken == 3
    assert finding.keys[0].startswith(f"crops: recipe_id={recipe_of_crops(small)}/has_crop=true/")


Break = Callable[[SmallLake], None]


def delta(small: SmallLake, table: t.Table) -> DeltaTable:
    return DeltaTable.forPath(small.spark, storage.for_spark(small.lake.path(table)))


def change(table: t.Table, where: str, **values: str) -> Break:
    return lambda small: delta(small, table).update(where, dict(values))


def add(table: t.Table, row: Callable[[SmallLake], dict[str, object]]) -> Break:
    return lambda small: small.add(table, row(small))


def lose(table: t.Table, where: str) -> Break:
    return lambda small: small.lake.delete(table, where)


def forget(image_id: str) -> Break:
    return lambda small: forget_on_paper(small, image_id)


@pytest.mark.parametrize(
    ("name", "break_it", "keys"),
    [
        ("catalog_keys", add(t.BOXES, lambda s: {t.BOX_ID: "a1"}), ["a1"]),
        ("catalog_keys", add(t.PHOTOS, lambda s: {t.IMAGE_ID: PHOTO_A}), [PHOTO_A]),
        ("one_crop_per_box", add(t.CROPS, lambda s: s.crop("b2")), ["{recipe} b2"]),
        ("every_box_has_its_row", add(t.CROPS, lambda s: s.crop("d1")), ["fruit d1 2 rows"]),
        ("every_box_has_its_row", lose(t.CROPS, "box_id = 'd1'"), ["fruit d1 0 rows"]),
        ("status_fits_bytes", change(t.CROPS, "box_id = 'a1'", jpeg="NULL"), ["{recipe} a1 ok"]),
        ("status_fits_bytes", change(t.CROPS, "box_id = 'd1'", status="'ok'"), ["{recipe} d1 ok"]),
        ("status_fits_bytes", change(t.CROPS, "box_id = 'd1'", status="NULL"), ["{recipe} d1"]),
        (
            "status_fits_bytes",
            change(t.CROPS, "box_id = 'd1'", jpeg="unhex('ff')"),
            ["{recipe} d1 not_found"],
        ),
        (
            "one_download_per_photo",
            change(t.CROPS, "box_id = 'a1'", photo_sha256="'other'"),
            [f"r2 {{recipe}} {PHOTO_A}"],
        ),
        (
            "one_split_per_photo",
            change(t.EXAMPLES, "dataset = 'fruit' AND box_id = 'a1'", split="'test'"),
            [f"fruit {PHOTO_A}"],
        ),
        (
            "one_split_per_group",
            change(t.NEAR_DUPLICATES, f"image_id = '{PHOTO_B}'", image_id=f"'{PHOTO_C}'"),
            [f"fruit {PHOTO_A}"],
        ),
        ("attribution", change(t.CROPS, "box_id = 'a1'", title="NULL"), ["crops a1"]),
        ("attribution", change(t.EXAMPLES, "box_id = 'b1'", license="NULL"), ["examples b1"]),
        (
            "examples_have_crops",
            change(t.EXAMPLES, "box_id = 'c1'", image="unhex('ff')"),
            ["fruit c1"],
        ),
        ("examples_have_crops", lose(t.CROPS, "box_id = 'c2'"), ["fruit c2", "pears c2"]),
        (
            "forgotten_rows",
            forget(PHOTO_A),
            [
                f"{table} {PHOTO_A}"
                for table in ("crops", "examples", "near_duplicates", "selected_boxes")
            ],
        ),
    ],
)
def test_what_a_hand_breaks_is_named(
    small: SmallLake, name: str, break_it: Break, keys: list[str]
) -> None:
    break_it(small)
    finding = found(small, name)
    assert list(finding.keys) == [key.format(recipe=recipe_of_crops(small)) for key in keys]
    assert finding.num_broken == len(keys)


@pytest.mark.parametrize(
    ("name", "change_it"),
    [
        # A crop that was lost and fetched again after the examples were made.
        (
            "examples_have_crops",
            change(t.CROPS, "box_id = 'a1'", jpeg="unhex('ff')", fetched_at=f"timestamp '{LATER}'"),
        ),
        # The catalog itself has no title.
        (
            "attribution",
            lambda small: (
                delta(small, t.CROPS).update("true", {"title": "NULL"}),
                delta(small, t.EXAMPLES).update("true", {"title": "NULL"}),
                delta(small, t.PHOTOS).update("true", {"title": "NULL"}),
            ),
        ),
        # Another recipe has a crop of its own.
        ("one_crop_per_box", add(t.CROPS, lambda s: s.crop("a1", recipe_id="other"))),
        # A later run broke off; the next one settles it.
        (
            "every_box_has_its_row",
            lambda small: (
                small.add(t.CROPS, small.crop("d1", attempt=2, run_id="r8")),
                small.add(
                    t.RUNS, small.run("r8", "fetch_crops", outcome="failed", started_at=LATER)
                ),
            ),
        ),
        # Its boxes were selected anew, and not fetched since.
        (
            "every_box_has_its_row",
            lambda small: (
                small.lake.delete(t.CROPS, "box_id = 'd1'"),
                small.add(t.RUNS, small.run("r8", "select_boxes", ended_at=LATER)),
            ),
        ),
        # Its boxes are accounted for: the photo is forgotten.
        (
            "every_box_has_its_row",
            lambda small: (
                small.lake.delete(t.CROPS, f"image_id = '{PHOTO_D}'"),
                delta(small, t.SELECTED_BOXES).update(
                    f"image_id = '{PHOTO_D}'", {"reject_reason": "'forgotten'"}
                ),
            ),
        ),
        # Crops that the dataset's rules turned down lie in a split of their own.
        ("one_split_per_photo", change(t.EXAMPLES, "box_id = 'a1'", split="'rejected'")),
    ],
)
def test_what_may_be_is_not_broken(
    small: SmallLake, name: str, change_it: Callable[[SmallLake], object]
) -> None:
    change_it(small)
    assert found(small, name).keys == ()


def test_a_picture_that_does_not_decode_to_its_size_is_named(small: SmallLake) -> None:
    delta(small, t.CROPS).update("box_id = 'a1'", {"width_px": "31"})
    delta(small, t.CROPS).update("box_id = 'b1'", {"jpeg": "substring(jpeg, 1, 300)"})
    (deep,) = [
        finding
        for finding in find_all(small.spark, str(small.folder), deep=True, num_keys=3)
        if finding.check.name == "pictures"
    ]
    assert deep.keys == (
        "a1: is 30 × 20 px, its row says 31 × 20",
        "b1: does not decode (OSError)",
    )
