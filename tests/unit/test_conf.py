from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from croplake.conf.loading import load_settings
from croplake.conf.reference import files
from croplake.errors import SettingsError
from croplake.jobs.context import settings_hash
from croplake.jobs.select_boxes import JOB

CATALOG = {"classes": "c", "hierarchy": "h", "photos": {"train": "p"}, "boxes": {"train": "b"}}
MINIMAL: dict[str, Any] = {"catalog": CATALOG, "dataset": {"name": "fruit", "classes": ["Apple"]}}


def write(path: Path, values: object) -> str:
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def test_an_unknown_key_is_named_with_file_line_and_the_nearest_known_one(tmp_path: Path) -> None:
    conf = tmp_path / "conf.yaml"
    conf.write_text(yaml.safe_dump(MINIMAL) + "train:\n  batchsize: 3\n")
    with pytest.raises(SettingsError) as error:
        load_settings(str(conf))
    line = conf.read_text().splitlines().index("  batchsize: 3") + 1
    assert str(error.value) == (
        f"{conf}:{line}: unknown key train.batchsize; did you mean train.batch_size?"
    )


def test_an_unknown_key_of_the_dataset_file_is_named_with_that_file(tmp_path: Path) -> None:
    dataset = write(tmp_path / "fruit.yaml", {"name": "fruit", "clases": ["Apple"]})
    conf = write(tmp_path / "conf.yaml", {"catalog": CATALOG, "dataset": dataset})
    with pytest.raises(SettingsError) as error:
        load_settings(conf)
    assert f"{dataset}:2: unknown key dataset.clases; did you mean dataset.classes?" in str(
        error.value
    )


def test_a_dataset_needs_classes_or_categories(tmp_path: Path) -> None:
    dataset = write(tmp_path / "fruit.yaml", {"name": "fruit"})
    conf = write(tmp_path / "conf.yaml", {"catalog": CATALOG, "dataset": dataset})
    with pytest.raises(SettingsError, match="dataset: a dataset needs classes or categories"):
        load_settings(conf)
    own = write(tmp_path / "own.yaml", {"name": "own", "categories": {"fruit": ["Apple"]}})
    conf = write(tmp_path / "conf.yaml", {"catalog": CATALOG, "dataset": own})
    assert load_settings(conf).dataset.choice.categories == {"fruit": ("Apple",)}


def test_one_word_for_unknown_flags_is_for_all_of_them(tmp_path: Path) -> None:
    conf = write(tmp_path / "conf.yaml", MINIMAL)
    unknown = load_settings(conf, ["dataset.flags={unknown: reject}"]).dataset.flags.unknown
    assert set(unknown.model_dump().values()) == {"reject"}
    one = load_settings(conf, ["dataset.flags={unknown: {inside: reject}}"]).dataset.flags.unknown
    assert (one.inside, one.occluded) == ("reject", "keep")


def test_an_unknown_key_on_the_command_line_is_named_as_such(tmp_path: Path) -> None:
    conf = write(tmp_path / "conf.yaml", MINIMAL)
    with pytest.raises(SettingsError) as error:
        load_settings(conf, ["lake.rot=/tmp"])
    expected = "--set lake.rot=/tmp: unknown key lake.rot; did you mean lake.root?"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.seed=x", "train.seed: input should be a valid integer"),
        ("train.phases=[{epochs: 0}]", "train.phases.0.epochs: input should be greater than or"),
        ("train.phases=[{epoch: 1}]", "train.phases.0.epoch; did you mean train.phases.0.epochs?"),
        ("train.phases=[]", "train.phases: "),
        ("train.weights=none", "weights: none needs phases with trainable: all"),
        ("train.base=MobilNetV2", "'MobilNetV2' is no network of keras.applications; did you mean"),
        ("train.alpha=0.4", "imagenet of MobileNetV2 come with one of 0.35, 0.5, 0.75, 1.0, 1.3"),
        ("train={base: ResNet50, alpha: 0.5}", "alpha: ResNet50 has one width"),
        ("dataset.hash_shares={train: 0.5}", "train + validation + test must be 1, got 0.7"),
        ("dataset.name=My Set", "dataset.name"),
        ("dataset.categories={a/b: [Apple]}", "dataset.categories.a/b"),
        ("dataset.balance={rule: cap}", "rule: cap needs max_examples"),
        (
            "dataset={name: x, classes: [a], min_aspect_ratio: 2, max_aspect_ratio: 1}",
            "min_aspect_ratio must be at most max_aspect_ratio",
        ),
        ("fetch.sources=[miror]", "fetch.sources.0"),
        ("fetch.contact='a\\nX-Evil: 1'".replace("'", '"'), "fetch.contact"),
        ("fetch.mirror_url='http://m/{imageid}'", "{subset} and {image_id} can be filled in"),
        ("fetch.mirror_url='http://[{subset}/{image_id}'", "is no address (Invalid IPv6 URL)"),
        ("catalog.classes='https://a:b/c.csv'", "https://a:b/c.csv is no address (Port could"),
        ("catalog.photos={train: 'http:///p.csv'}", "is no address (it names no host)"),
        ("fetch.connect_to={a.example: nowhere}", "'nowhere' is no address:port"),
        (
            "fetch.hosts={live.staticflickr.com: {transfers: 2}}",
            "live.staticflickr.com is paced as staticflickr.com; give that a budget",
        ),
        ("train.seed", "expected key.path=value"),
        ("train.seed=[", "the value is not YAML"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(
    tmp_path: Path, override: str, message: str
) -> None:
    conf = write(tmp_path / "conf.yaml", MINIMAL)
    with pytest.raises(SettingsError) as error:
        load_settings(conf, [override])
    assert message in str(error.value)
    assert f"--set {override}" in str(error.value)


def test_an_override_wins_over_the_file_and_reaches_into_the_dataset_file(tmp_path: Path) -> None:
    dataset = write(tmp_path / "fruit.yaml", {"name": "fruit", "classes": ["Apple"]})
    conf = write(
        tmp_path / "conf.yaml", {"catalog": CATALOG, "dataset": dataset, "train": {"seed": 9}}
    )
    settings = load_settings(
        conf, ["train.seed=3", "dataset.classes=[Banana, /m/0x]", "dataset.flags.occluded=only"]
    )
    assert settings.train.seed == 3
    assert settings.dataset.classes == ("Banana", "/m/0x")
    assert settings.dataset.flags.occluded == "only"
    assert settings.dataset.name == "fruit"


def test_an_override_reaches_into_an_item_of_a_list(tmp_path: Path) -> None:
    phases = [{"trainable": "head"}, {"trainable": "top_5", "epochs": 9}]
    conf = write(tmp_path / "conf.yaml", MINIMAL | {"train": {"phases": phases}})
    settings = load_settings(conf, ["train.phases.1.epochs=2"])
    assert [phase.epochs for phase in settings.train.phases] == [10, 2]
    with pytest.raises(SettingsError, match=r"--set train\.phases\.2\.epochs=2: 2 is no item"):
        load_settings(conf, ["train.phases.2.epochs=2"])


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    conf = tmp_path / "conf.yaml"
    conf.write_text(yaml.safe_dump(MINIMAL) + "train: {seed: 1}\ntrain: {seed: 2}\n")
    with pytest.raises(SettingsError, match="train stands twice"):
        load_settings(str(conf))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml: cannot be read"):
        load_settings(str(tmp_path / "nowhere.yaml"))


@pytest.mark.parametrize("name", ["local", "sample", "cluster"])
def test_the_configurations_that_come_along_hold(name: str) -> None:
    assert load_settings(f"conf/{name}.yaml").dataset.classes


@pytest.mark.parametrize("name", sorted(files()))
def test_the_reference_and_the_schemas_are_what_the_models_say(name: str) -> None:
    found = Path("conf", name).read_text(encoding="utf-8")
    assert found == files()[name], "run make reference"


def test_the_schema_knows_the_short_form_of_unknown_flags() -> None:
    schema = json.loads(files()["dataset.schema.json"])
    options = schema["$defs"]["FlagsSpec"]["properties"]["unknown"]["anyOf"]
    assert {"enum": ["keep", "reject"], "type": "string"} in options
    assert {"$ref": "#/$defs/UnknownFlagsSpec"} in options


@pytest.mark.parametrize(
    ("root", "is_on_s3"),
    [("s3a://b/lake", True), ("s3://b/lake", True), ("S3://b/l", True), ("s3lake", False)],
)
def test_any_address_on_s3_is_noticed(tmp_path: Path, root: str, is_on_s3: bool) -> None:
    conf = write(tmp_path / "conf.yaml", MINIMAL)
    assert load_settings(conf, [f"lake.root={root}"]).is_on_s3 == is_on_s3
    assert load_settings(conf, [f"train.weights={root}"]).is_on_s3 == is_on_s3


def test_two_subsets_cannot_be_one_file(tmp_path: Path) -> None:
    boxes = {"train": "boxes.csv", "test": "boxes.csv"}
    catalog = MINIMAL["catalog"] | {"boxes": boxes}
    with pytest.raises(SettingsError, match=r"train and test name the same file: boxes\.csv"):
        load_settings(write(tmp_path / "conf.yaml", MINIMAL | {"catalog": catalog}))


def test_the_order_of_categories_is_part_of_what_decides_a_dataset(tmp_path: Path) -> None:
    own = {"wheels": ["Bicycle"], "all": ["Vehicle/**"]}
    orders = ([*own.items()], [*own.items()][::-1])
    found = [
        load_settings(
            write(
                tmp_path / "conf.yaml",
                MINIMAL | {"dataset": {"name": "d", "categories": dict(order)}},
            )
        )
        for order in orders
    ]
    assert len({settings_hash(JOB, settings, {}) for settings in found}) == 2


def test_settings_cannot_be_changed_once_loaded(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path / "conf.yaml", MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        settings.train.seed = 5


def test_a_host_of_ones_own_is_added_to_those_that_have_a_budget(tmp_path: Path) -> None:
    fetch = {"hosts": {"example.org": {"transfers": 3}, "staticflickr.com": {"transfers": 5}}}
    settings = load_settings(write(tmp_path / "conf.yaml", MINIMAL | {"fetch": fetch}))
    transfers = {name: budget.transfers for name, budget in settings.fetch.hosts.items()}
    assert transfers == {
        "*": 32,
        "open-images-dataset.s3.amazonaws.com": 1024,
        "staticflickr.com": 5,
        "example.org": 3,
    }
