from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from croplake import tables as t
from croplake.errors import CroplakeError, IncompleteError, InputDataError, SettingsError
from croplake.inference.embedding import AboutNetwork, EmbeddingNetwork
from croplake.jobs.context import JobContext
from croplake.jobs.probe_network import choose_network
from tests.jobs.probed_lake import (
    BROKEN,
    MODEL_ID,
    add_model,
    example_of,
    probe,
    save_network,
    with_changes,
)
from tests.jobs.small_lake import SmallLake
from tests.jobs.world import rows_of


def choose(
    small: SmallLake,
    told: dict[str, CroplakeError],
    **changes: Any,  # noqa: ANN401
) -> tuple[EmbeddingNetwork, str]:
    """What the settings lead to where some networks fail, and what was said."""
    console = Console(file=io.StringIO(), width=300, record=True)
    settings = with_changes(small.settings, "probe", **changes)
    context = JobContext(small.spark, settings, small.lake, console)
    context.pinned = {"examples": small.lake.version(t.EXAMPLES)}
    tested = small.lake.read(t.EXAMPLES).where("split = 'test'").select(t.IMAGE_ID)

    def about(network: EmbeddingNetwork) -> AboutNetwork:
        for name, error in told.items():
            if network.name.startswith(name):
                raise error
        return AboutNetwork("d", 3)

    return choose_network(context, tested, about)[0], console.export_text()


NO_WEIGHTS: dict[str, CroplakeError] = {"imagenet:": IncompleteError("no weights of MobileNetV2")}


def test_auto_takes_imagenet_then_the_fallback_then_the_newest_model(
    probed: SmallLake, tmp_path: Path
) -> None:
    assert choose(probed, {}, network="auto")[0].name == "imagenet:MobileNetV2 224"
    given = choose(probed, {}, network="imagenet:DenseNet121", input_side_px=96)[0]
    assert given == EmbeddingNetwork("imagenet:DenseNet121 96", "imagenet:DenseNet121", 96)
    with pytest.raises(IncompleteError, match=r"no weights of MobileNetV2; there is no probe\.fal"):
        choose(probed, NO_WEIGHTS, network="auto")
    path = save_network(tmp_path / "fallback")
    found, said = choose(probed, NO_WEIGHTS, network="auto", fallback=path)
    assert found.name.endswith(" model.keras 32")
    assert found.side_px == 32
    assert Path(found.address.removeprefix("file://").replace("%20", " ")).name == "model.keras"
    assert "ImageNet weights are not to be had; file:" in said
    add_model(probed, probed.lake.version(t.EXAMPLES))
    found, said = choose(probed, NO_WEIGHTS, network="auto")
    assert found.name == f"model:{MODEL_ID}"
    assert f"ImageNet weights are not to be had; model:{MODEL_ID} takes their place" in said
    # A file of the lake's own model, or an export of it, is that model; no other beside it is.
    copied, exported = tmp_path / "copied", tmp_path / "exported"
    shutil.copytree(probed.folder / "models" / MODEL_ID, copied)
    shutil.copytree(path.removesuffix("/model.keras"), exported)
    card = json.dumps({"model_id": MODEL_ID})
    (exported / "croplake.json").write_text(card)
    shutil.copy(path, exported / "tuned.keras")
    with zipfile.ZipFile(exported / "model.keras", "a") as members:
        members.writestr("croplake.json", card)
    for folder in (copied, exported):
        found, _ = choose(probed, {}, network=str(folder / "model.keras"))
        assert found.name == f"model:{MODEL_ID}"
    found, _ = choose(probed, {}, network=str(exported / "tuned.keras"))
    assert found.name.endswith(" tuned.keras 32")
    # It has learned the examples that are probed: an earlier model of others comes before it.
    save_network(probed.folder / "models" / "earlier", scale=1 / 200)
    changes = {t.MODEL_ID: "earlier", t.DATASET: "others", t.TABLES_READ: {"examples": 0}}
    probed.add(t.RUNS, probed.run("r0", "train_classifier", **changes))
    assert choose(probed, NO_WEIGHTS, network="auto")[0].name == "model:earlier"


def test_auto_passes_over_models_that_have_learned_the_test_split_or_are_gone(
    probed: SmallLake,
) -> None:
    version = probed.lake.version(t.EXAMPLES)
    rows = [row for row in rows_of(probed.settings, "examples") if row[t.SPLIT] == "test"]
    probed.add(t.EXAMPLES, *(row | {t.DATASET: "others", t.SPLIT: "train"} for row in rows))
    add_model(probed, version + 1, "others")
    changes = {t.MODEL_ID: "gone", t.TABLES_READ: {"examples": version + 1}}
    probed.add(t.RUNS, probed.run("r8", "train_classifier", **changes))
    changes = {t.MODEL_ID: "unknown", t.TABLES_READ: {"examples": 99}}
    probed.add(t.RUNS, probed.run("r7", "train_classifier", **changes))
    with pytest.raises(IncompleteError, match="no earlier model that would do"):
        choose(probed, NO_WEIGHTS, network="auto")


def test_a_model_that_has_learned_photos_of_the_test_split_is_refused(
    probed: SmallLake, tmp_path: Path
) -> None:
    version = probed.lake.version(t.EXAMPLES)
    crops = [row for row in rows_of(probed.settings, "crops") if row[t.BOX_ID] != BROKEN]
    probed.add(t.EXAMPLES, *(example_of(probed, crop, "train", "others") for crop in crops))
    add_model(probed, version + 1, "others")
    said = f"model {MODEL_ID} has had 2 photos of the test split of dataset fruit in its training"
    copied = tmp_path / "copied.keras"
    shutil.copy(probed.folder / "models" / MODEL_ID / "model.keras", copied)
    for network in (MODEL_ID, str(copied)):
        with pytest.raises(InputDataError, match=said):
            probe(probed, with_changes(probed.settings, "probe", network=network))
    assert len(rows_of(probed.settings, "evaluations")) > 0


def test_the_same_network_under_another_name_needs_no_vectors_of_its_own(
    probed: SmallLake, tmp_path: Path
) -> None:
    copied = tmp_path / "copy" / "another näme.keras"
    copied.parent.mkdir()
    (network,) = (probed.folder / "networks").rglob("*.keras")
    shutil.copy(network, copied)
    context, said = probe(
        probed, with_changes(probed.settings, "probe", network=str(copied), input_side_px=32)
    )
    assert context.counts["vectors made"] == 0
    assert "another näme.keras" in said


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"network": "nowhere/a.keras"}, SettingsError, r"probe\.network: nowhere/a\.keras: no su"),
        ({"network": "no-such-model"}, InputDataError, "the lake has no model no-such-model"),
    ],
)
def test_a_network_that_is_not_there_is_named(
    probed: SmallLake, changes: dict[str, Any], kind: type[CroplakeError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        probe(probed, with_changes(probed.settings, "probe", **changes))


def test_an_unknown_base_and_a_torn_network_are_named_by_the_worker(
    probed: SmallLake, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"imagenet:MobileNetV9: .*; did you mean MobileNetV2"):
        probe(probed, with_changes(probed.settings, "probe", network="imagenet:MobileNetV9"))
    torn = tmp_path / "torn.keras"
    torn.write_bytes(b"torn")
    with pytest.raises(InputDataError, match=r"torn\.keras: Keras cannot load it"):
        probe(probed, with_changes(probed.settings, "probe", network=str(torn)))


def test_a_network_whose_weights_are_no_numbers_leaves_no_vector(
    probed: SmallLake, tmp_path: Path
) -> None:
    network = save_network(tmp_path / "diverged", scale=float("nan"))
    with pytest.raises(InputDataError, match=r"13 crops have no vector: .*choose another probe"):
        probe(probed, with_changes(probed.settings, "probe", network=network))
    assert len(rows_of(probed.settings, "embeddings")) == 12
