"""What an evaluation leaves: rows, a page, a picture; and what it says where it cannot."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from croplake import tables as t
from croplake.cli import main
from croplake.conf import EvaluateConf, Settings
from croplake.errors import InputDataError, SettingsError
from croplake.jobs.context import JobContext
from croplake.jobs.evaluate_classifier import JOB
from croplake.jobs.evaluated_models import choose_models, page_name, tell_of_leaks
from croplake.models import find_model
from tests.html_page import Page, parse_page
from tests.jobs.judged_lake import (
    CASES,
    DULL,
    KEEN,
    MISTAKEN_PHOTO,
    NEW,
    example_row,
    judge,
    save_model,
)
from tests.jobs.small_lake import SmallLake, copy_small_lake
from tests.jobs.world import rows_of, run, said_by


@pytest.fixture(scope="module")
def first_judged(
    first_small_lake: SmallLake, tmp_path_factory: pytest.TempPathFactory
) -> SmallLake:
    return judge(copy_small_lake(first_small_lake, tmp_path_factory.mktemp("judged")))


@dataclass(frozen=True)
class Compared:
    """A judged lake in which one model was evaluated beside another."""

    small: SmallLake
    settings: Settings
    said: str


@pytest.fixture(scope="module")
def compared(first_judged: SmallLake, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    small = copy_small_lake(first_judged, tmp_path_factory.mktemp("compared"))
    settings = asking(small, model=KEEN, compare_with=DULL)
    return Compared(small, settings, said_by(small.spark, "evaluate_classifier", settings))


@pytest.fixture
def judged(first_judged: SmallLake, tmp_path: Path) -> SmallLake:
    """A judged lake of one test's own."""
    return copy_small_lake(first_judged, tmp_path)


def asking(small: SmallLake, **changes: Any) -> Settings:  # noqa: ANN401
    conf = EvaluateConf.model_validate(changes)
    return small.settings.model_copy(update={"evaluate": conf})


def figures(settings: Settings, model_id: str) -> dict[tuple[str, ...], float | None]:
    """The model's figures by metric, and by what else is not null."""
    keys = (t.METRIC, t.SLICE, t.CATEGORY, t.PREDICTED_CATEGORY, t.OTHER_MODEL_ID)
    rows = [row for row in rows_of(settings, "evaluations") if row[t.MODEL_ID] == model_id]
    found = {tuple(row[key] for key in keys if row[key]): row[t.VALUE] for row in rows}
    assert len(found) == len(rows)
    return found


def page_of(small: SmallLake, name: str) -> Page:
    return parse_page((small.folder / "reports" / name).read_text(encoding="utf-8"))


def test_two_models_beside_each_other_leave_rows_and_a_page(compared: Compared) -> None:
    settings, said = compared.settings, compared.said
    keen, dull = figures(settings, KEEN), figures(settings, DULL)
    num = len(CASES)
    assert keen["top1",] == pytest.approx(13 / num)
    assert dull["top1",] == pytest.approx(11 / num)
    assert keen["hierarchy_distance",] == 2.0
    assert keen["num_mistakes", "distance=2"] == 2
    assert keen["confusion", "Apple", "Pear"] == 1
    assert ("confusion", "Pear", "Fruit") not in keen
    low, high = keen["top1_ci_low",], keen["top1_ci_high",]
    assert low is not None
    assert high is not None
    assert low < 13 / num < high
    both = {key[0]: value for key, value in keen.items() if key[-1] == DULL}
    assert both.pop("top1_difference") == pytest.approx(2 / num)
    assert both.pop("mcnemar_p") == pytest.approx(0.625)
    low, high = both.pop("top1_difference_ci_low"), both.pop("top1_difference_ci_high")
    assert low is not None
    assert high is not None
    assert low < 0 < high
    assert both == {
        "num_both_right": 10,
        "num_only_this_right": 3,
        "num_only_other_right": 1,
        "num_neither_right": 1,
    }
    sizes = {f"box_size={size}": n for size, n in (("small", 6), ("medium", 6), ("large", 3))}
    assert {name: keen["num_examples", name] for name in sizes} == sizes
    assert keen["top1", "truncated=unknown"] == 1.0
    assert dull["top1", "truncated=unknown"] == 0.0
    assert keen["num_examples", "photo_source=original"] == 1
    assert keen["num_examples", "photo_source=unknown"] == num - 2  # of another recipe, or unknown
    assert keen["num_examples", "box_source=activemil"] == 1

    page = page_of(compared.small, f"{KEEN}_vs_{DULL}_test.html")
    assert page.table("Examples by who has them right") == [
        ["both", "10"],
        [f"only {KEEN}", "3"],
        [f"only {DULL}", "1"],
        ["neither", "1"],
    ]
    alts = [image["alt"] for image in page.all("img")]
    assert len(alts) == 2 + 3 + 1
    surest = f"Pear, → Apple, 98.5%, crop of photo {MISTAKEN_PHOTO}, licence CC BY 2.0, by Ann"
    assert surest in alts
    assert [line for line in said.splitlines() if line][-1] == "test top-1: 86.67%"
    assert "McNemar p = 0.625" in said
    assert "top-1, 95 % interval" in said
    folder = compared.small.folder / "models" / KEEN
    assert (folder / "confusion_test.png").exists()
    run_row = [row for row in rows_of(settings, "runs") if row[t.JOB] == "evaluate_classifier"][-1]
    assert run_row[t.MODEL_ID] == KEEN
    assert dict(run_row[t.TABLES_READ]).keys() == {"examples", "classes", "boxes", "crops"}


@pytest.mark.full
def test_an_ensemble_is_one_model_with_its_members_beside_it(judged: SmallLake) -> None:
    settings = asking(judged, ensemble=[KEEN, DULL], compare_with=KEEN)
    out = judged.folder.parent / "elsewhere" / "page.html"
    said = said_by(judged.spark, "evaluate_classifier", settings, out=str(out))
    both = figures(settings, f"{KEEN}+{DULL}")
    # Of purple the dull one is surer than the keen one.
    assert both["top1",] == pytest.approx(11 / len(CASES))
    page = parse_page(out.read_text(encoding="utf-8"))
    assert f"{KEEN}+{DULL} is the mean of the probabilities of 2 models" in page.text
    members = [line for line in said.splitlines() if "│ member" in line]
    assert [KEEN in members[0], DULL in members[1]] == [True, True]
    assert "An ensemble has no curves" in page.text
    assert not (judged.folder / "reports").exists()


def test_a_model_of_a_later_snapshot_is_told_of_as_it_may_know_the_photos(
    judged: SmallLake,
) -> None:
    settings = asking(judged, ensemble=[KEEN, DULL], compare_with=NEW)
    context = JobContext(judged.spark, settings, judged.lake, Console(quiet=True))
    first, second = choose_models(judged.lake, settings)
    examples = judged.lake.read(t.EXAMPLES, version=first.version).where("split = 'test'")
    of_new = f"model {NEW} (dataset fruit, examples version 3)"
    assert list(tell_of_leaks(context, examples, first, second)) == [
        f"{of_new} has had 1 photos of this test split in its training or its validation: its "
        "figures may be better than it is"
    ]
    assert list(tell_of_leaks(context, examples, first, None)) == []
    of_train = asking(judged, model=KEEN, split="train")
    context_of_train = JobContext(judged.spark, of_train, judged.lake, Console(quiet=True))
    keen, _ = choose_models(judged.lake, of_train)
    (told,) = tell_of_leaks(context_of_train, examples, keen, None)
    assert told.endswith("has learned this split, so it does better there")
    chosen_by = example_row(judged, 10, split="validation", example_id="chosen by")
    judged.add(t.EXAMPLES, chosen_by)
    read = {t.EXAMPLES.name: judged.lake.version(t.EXAMPLES)}
    changes = {t.MODEL_ID: NEW, t.TABLES_READ: read}
    judged.add(t.RUNS, judged.run("s9", "train_classifier", **changes))
    _, again = choose_models(judged.lake, settings)
    assert list(tell_of_leaks(context, examples, first, again)) == [
        f"model {NEW} (dataset fruit, examples version 4) has had 2 photos of this test split in "
        "its training or its validation: its figures may be better than it is"
    ]
    partition = {"dataset": "fruit", "split": "train"}
    files = judged.lake.reader.files("examples", version=3, partition=partition)
    for file in files:
        Path(file).unlink()
    assert list(tell_of_leaks(context, examples, first, second)) == [
        f"{of_new}: files it was trained on are gone, so it may know photos of this split"
    ]


def test_models_of_other_categories_are_refused_with_the_odd_ones_named(
    judged: SmallLake,
) -> None:
    save_model(judged.folder / "models" / DULL, (0.02, 0.02), ["Apple", "Quince"])
    for changes in ({"model": KEEN, "compare_with": DULL}, {"ensemble": [KEEN, DULL]}):
        with pytest.raises(InputDataError, match="only one of them knows 'Pear', 'Quince'"):
            run(judged.spark, "evaluate_classifier", asking(judged, **changes))
    save_model(judged.folder / "models" / DULL, (0.02, 0.02), ["Pear", "Apple"])
    with pytest.raises(InputDataError, match="they have them in another order"):
        choose_models(judged.lake, asking(judged, ensemble=[KEEN, DULL]))


def test_a_model_is_not_compared_with_itself_nor_twice_in_an_ensemble(judged: SmallLake) -> None:
    with pytest.raises(SettingsError, match="is the model that is evaluated"):
        choose_models(judged.lake, asking(judged, model=KEEN, compare_with=KEEN))
    with pytest.raises(SettingsError, match="names a model twice"):
        choose_models(judged.lake, asking(judged, ensemble=[NEW, "latest"]))


def test_latest_is_the_newest_model_whose_folder_is_there(judged: SmallLake) -> None:
    def latest() -> str:
        return find_model(judged.lake.reader, "fruit", "latest").model_id

    before = JOB.state_of(judged.lake, judged.settings)
    assert before == [latest(), None] == [NEW, None]
    shutil.rmtree(judged.folder / "models" / NEW)
    assert latest() == DULL
    assert JOB.state_of(judged.lake, judged.settings) != before
    shutil.rmtree(judged.folder / "models")
    assert JOB.state_of(judged.lake, judged.settings) is None
    with pytest.raises(InputDataError, match=r"was trained, its file is gone; there is none"):
        latest()


def test_what_the_lake_cannot_say_is_left_out_and_said(judged: SmallLake) -> None:
    for table in (t.CLASSES, t.CROPS, t.BOXES):
        shutil.rmtree(judged.folder / table.name)
    (judged.folder / "models" / KEEN / "history.json").unlink()
    torn = [example_row(judged, number, image=b"torn") for number in (0, 1)]
    judged.add(t.EXAMPLES, *(row | {t.EXAMPLE_ID: f"torn{n}"} for n, row in enumerate(torn)))
    read = {t.EXAMPLES.name: judged.lake.version(t.EXAMPLES)}
    changes = {t.MODEL_ID: KEEN, t.TABLES_READ: read, t.SETTINGS: "of another age"}
    judged.add(t.RUNS, judged.run("t1", "train_classifier", **changes))
    settings = asking(judged, model=KEEN, pictures=0)
    said = said_by(judged.spark, "evaluate_classifier", settings)
    keen = figures(settings, KEEN)
    assert keen["num_unscored",] == 2
    assert keen["num_examples",] == len(CASES)
    assert keen["hierarchy_distance",] is None
    assert not any("source=" in part for key in keen for part in key)
    text = page_of(judged, f"{KEEN}_test.html").text
    for what in ("distances of mistakes", "slices by the photo's source", "the box's source"):
        assert what in said
        assert what in text
    assert "No record of the model's training can be read" in text
    assert "No picture of a mistake is shown" in text
    assert "examples that could not be scored" in said


def test_an_empty_split_says_what_to_do(judged: SmallLake) -> None:
    judged.add(t.EXAMPLES, example_row(judged, 0, dataset="nuts", split="train"))
    read = {t.EXAMPLES.name: judged.lake.version(t.EXAMPLES)}
    changes = {t.MODEL_ID: KEEN, t.TABLES_READ: read, t.DATASET: "nuts"}
    judged.put(t.RUNS, judged.run("t1", "train_classifier", **changes))
    with pytest.raises(InputDataError, match="its test split is empty"):
        run(judged.spark, "evaluate_classifier", asking(judged, model=KEEN))


def test_a_place_that_cannot_be_is_refused_before_a_model_is_asked(judged: SmallLake) -> None:
    with pytest.raises(SettingsError, match="is a folder"):
        said_by(
            judged.spark, "evaluate_classifier", asking(judged, model=KEEN), out=str(judged.folder)
        )
    assert not (judged.folder / "evaluations").exists()


def test_forgetting_a_photo_removes_the_pages_that_show_it_and_no_others(
    compared: Compared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = copy_small_lake(compared.small, tmp_path)
    (judged.folder / "reports" / "other.html").write_text("a page that shows another photo")
    assert main(["lake", "forget", "--conf", judged.conf, MISTAKEN_PHOTO]) == 0
    names = {page.name for page in (judged.folder / "reports").iterdir()}
    assert names == {"other.html"}
    assert f"page removed, it showed them: {judged.folder.as_uri()}" in (
        capsys.readouterr().out.replace("\n", "")
    )


@pytest.mark.full
def test_a_forgotten_photo_is_not_measured_nor_shown_again(
    judged: SmallLake,
) -> None:
    assert main(["lake", "forget", "--conf", judged.conf, MISTAKEN_PHOTO]) == 0
    (judged.folder / "models" / KEEN / "confusion_test.png").mkdir()
    settings = asking(judged, model=KEEN)
    said = said_by(judged.spark, "evaluate_classifier", settings)
    assert figures(settings, KEEN)["num_examples",] == len(CASES) - 1
    page = judged.folder / "reports" / f"{KEEN}_test.html"
    assert MISTAKEN_PHOTO not in page.read_text()
    # What is beside a model is the page's, too: without it the evaluation is whole.
    assert f"{KEEN}/confusion_test.png cannot be written" in said


def test_long_names_of_ensembles_make_short_names_of_files(judged: SmallLake) -> None:
    for number in range(12):
        save_model(judged.folder / "models" / f"fruit-{number:050}", (1, 1), ["Apple", "Pear"])
        changes = {t.MODEL_ID: f"fruit-{number:050}", t.TABLES_READ: {"examples": 3}}
        judged.add(t.RUNS, judged.run(f"m{number}", "train_classifier", **changes))
    ids = [f"fruit-{number:050}" for number in range(12)]
    first, second = choose_models(judged.lake, asking(judged, ensemble=ids, compare_with=KEEN))
    name = page_name(first, second, "test")
    assert len(name) < 200
    assert name.startswith(f"{ids[0]}+11-")
    assert name.endswith(f"_vs_{KEEN}_test.html")
    other, _ = choose_models(judged.lake, asking(judged, ensemble=ids[::-1]))
    assert page_name(other, None, "test") != page_name(first, None, "test")
