"""A model of a lake in a bucket, exported into a bucket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from croplake import storage
from croplake import tables as t
from croplake.cli import main
from tests.jobs.world import hand_made_settings
from tests.model_lake import MODEL_ID, add_rows, add_what_it_learned_from, training
from tests.s3 import s3_server
from tests.small_models import TWO_LAYERS, build_model, save_model_folder

pytestmark = pytest.mark.full


def test_a_bucket_gets_every_file_and_only_what_is_asked_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets, root = tmp_path / "buckets", "s3a://lakes/lake"
    for name in ("lakes", "away"):
        (buckets / name).mkdir(parents=True)
    hand_made_settings(tmp_path, lake={"root": root})
    with s3_server(buckets) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        add_rows(root, t.RUNS, training())
        add_what_it_learned_from(root)
        save_model_folder(tmp_path / "model", build_model(2, base=TWO_LAYERS), ["Apple", "Pear"])
        storage.upload_folder(tmp_path / "model", f"{root}/models/{MODEL_ID}")
        command = ["export-model", "--conf", str(tmp_path / "conf.yaml")]
        command += ["--into", "s3a://away/v 1/ü"]
        assert main(command) == 0
        assert main([*command, "--format", "tflite,keras"]) == 0
    into = buckets / "away" / "v 1" / "ü"
    files = {path.name for path in into.rglob("*") if path.is_file()}
    assert files >= {"model.keras", "model.tflite", "labels.json", "croplake.json", "README.txt"}
    assert not files & {"model.h5", "saved_model.pb", "variables.index"}
    card = json.loads((into / "croplake.json").read_text())
    assert (card["model_id"], sum(card["licences"].values())) == (MODEL_ID, 3)
    import keras

    assert keras.models.load_model(into / "model.keras").output_shape == (None, 2)
