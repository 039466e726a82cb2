"""Models taken away: each file answers as the model does, and tells what its answers mean."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from croplake.cli import main
from croplake.conf import Settings
from croplake.errors import InputDataError, SettingsError
from croplake.inference.model import read_model_id
from croplake.model_export.entry import export_model
from croplake.model_export.formats import FORMATS, PLACES, Format, Request
from croplake.model_export.process import ExportJob, export
from tests.jobs.world import hand_made_settings
from tests.model_lake import MODEL_ID, make_model_lake
from tests.small_models import SIDE_PX, TWO_LAYERS, build_model, draw_crops, fit

pytest.importorskip("tensorflow")

REPOSITORYS = Path(__file__).parents[2] / "README.md"
LABELS = ("Apple", "Äpfel, süß", "a\nb", "nul\0byte", 'quo"te', "梨", "=SUM(1)", "<b>", "50 %", "z")
EXACT = 1e-5
FLOAT_TFLITE = 1e-3


@dataclass(frozen=True)
class Exported:
    """An export, and the model that was exported."""

    model: Any
    settings: Settings
    into: Path

    def expected(self, pictures: Sequence[Any]) -> Any:  # noqa: ANN401
        """The Keras model's own answers."""
        return by_size(lambda batch_NHWC: self.model.predict(batch_NHWC, verbose=0), pictures)

    def answers(self, format: Format, pictures: Sequence[Any]) -> Any:  # noqa: ANN401
        """An exported file's answers."""
        from croplake.model_export.writing import READERS

        path = self.into / PLACES[format]
        return by_size(lambda batch_NHWC: READERS[format](path, batch_NHWC), pictures)


def by_size(ask: Callable[[Any], Any], pictures: Sequence[Any]) -> Any:  # noqa: ANN401
    """Asks for pictures of one size together; the answers in the order of the pictures."""
    shapes = [picture.shape for picture in pictures]
    found: dict[int, Any] = {}
    for shape in set(shapes):
        numbers = [number for number, other in enumerate(shapes) if other == shape]
        answers_NC = ask(np.stack([pictures[number] for number in numbers]))
        found |= dict(zip(numbers, answers_NC, strict=True))
    return np.stack([found[number] for number in range(len(pictures))])


def make_export(folder: Path, model: Any, labels: Sequence[str], *formats: Format) -> Exported:  # noqa: ANN401
    settings = make_model_lake(folder, model, labels)
    into = folder / "away ä=1 100%"
    export_model(settings, Request("latest", formats, str(into)))
    return Exported(model, settings, into)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return make_export(tmp_path_factory.mktemp("new"), build_model(10), LABELS)


@pytest.fixture(scope="module")
def squares() -> list[Any]:
    return [fit(crop, SIDE_PX) for crop in draw_crops(200)]


def check_agreement(exported: Exported, squares: list[Any]) -> None:
    expected_NC = exported.expected(squares)
    assert len(set(expected_NC.argmax(axis=1))) > 3  # the model tells them apart
    best = np.sort(expected_NC, axis=1)
    for format in FORMATS:
        limit = FLOAT_TFLITE if format == "tflite" else EXACT
        answers_NC = exported.answers(format, squares)
        assert answers_NC.dtype == np.float32
        assert np.abs(answers_NC - expected_NC).max() < limit, format
        is_clear = best[:, -1] - best[:, -2] > 2 * limit
        same = answers_NC.argmax(axis=1) == expected_NC.argmax(axis=1)
        assert same[is_clear].all(), format
        assert is_clear.mean() > 0.9


def test_every_format_answers_as_the_model_on_200_crops(
    exported: Exported, squares: list[Any]
) -> None:
    check_agreement(exported, squares)


@pytest.mark.full
@pytest.mark.parametrize("base", ["VGG16", "DenseNet121", "EfficientNetB0"])
def test_whatever_a_base_wants_to_see_is_inside(
    base: str, tmp_path: Path, squares: list[Any]
) -> None:
    check_agreement(make_export(tmp_path, build_model(10, base=base), LABELS), squares)


@pytest.mark.full
def test_a_model_of_an_older_lake_agrees_too(tmp_path: Path, squares: list[Any]) -> None:
    check_agreement(make_export(tmp_path, build_model(10, is_new=False), LABELS), squares)


def test_the_files_that_keras_loads_tell_whose_they_are(exported: Exported, tmp_path: Path) -> None:
    import keras

    formats: tuple[Format, ...] = ("keras", "h5")
    for format in formats:
        assert read_model_id(str(exported.into / PLACES[format])) == MODEL_ID
    tuned = tmp_path / "tuned.keras"
    keras.models.load_model(exported.into / PLACES["keras"]).save(tuned)
    assert read_model_id(str(tuned)) is None, "it may be another by now"


def test_the_files_answer_as_evaluation_does_on_200_crops_as_they_are(exported: Exported) -> None:
    """JPEGs of many sizes, read by what training and evaluation read with."""
    import tensorflow as tf

    from croplake.training.decoding import decode_image

    jpegs, squares = [], []
    for crop in draw_crops(200, seed=29):
        target = io.BytesIO()
        Image.fromarray(crop).save(target, "JPEG", quality=90)
        jpegs.append(target.getvalue())
        squares.append(decode_image(tf.constant(jpegs[-1]), SIDE_PX).numpy())
    expected_NC = exported.expected(squares)
    model = tf.saved_model.load(str(exported.into / "savedmodel"))
    answers_NC = model.classify_jpegs(tf.constant(jpegs))["probabilities"].numpy()
    np.testing.assert_allclose(answers_NC, expected_NC, atol=EXACT)
    some = range(0, 200, 20)
    decoded = [
        tf.io.decode_jpeg(jpegs[number], dct_method="INTEGER_ACCURATE").numpy() for number in some
    ]
    for format in ("keras", "h5", "savedmodel"):
        answers_NC = exported.answers(format, decoded)
        np.testing.assert_allclose(answers_NC, expected_NC[some], atol=EXACT, err_msg=format)


def test_pictures_of_any_size_are_brought_to_size_inside(exported: Exported) -> None:
    crops = [fit(crop, 150)[:70] for crop in draw_crops(2, seed=9)]
    expected_NC = exported.expected(crops)
    for format in ("keras", "h5", "savedmodel"):
        assert np.abs(exported.answers(format, crops) - expected_NC).max() < EXACT, format
    squares = [fit(crop, SIDE_PX) for crop in crops]  # as README.txt does for TFLite
    assert np.abs(exported.answers("tflite", squares) - expected_NC).max() < 0.1


def test_a_savedmodel_decodes_files_of_many_sizes_and_names_the_categories(
    exported: Exported,
) -> None:
    import tensorflow as tf

    files, crops = [], draw_crops(5, seed=11)
    for number, crop in enumerate(crops):
        target = io.BytesIO()
        Image.fromarray(crop).save(target, ("PNG", "JPEG")[number % 2], quality=95)
        files.append(target.getvalue())
    model = tf.saved_model.load(str(exported.into / "savedmodel"))
    answer = model.signatures["classify_jpegs"](jpegs=tf.constant(files))
    decoded = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    expected_NC = exported.expected(decoded)
    np.testing.assert_allclose(answer["probabilities"], expected_NC, atol=EXACT)
    np.testing.assert_allclose(answer["probability"], expected_NC.max(axis=1), atol=EXACT)
    named = [name.decode() for name in answer["label"].numpy()]
    assert named == [LABELS[index] for index in expected_NC.argmax(axis=1)]
    labels = model.signatures["labels"]()["labels"].numpy()
    assert tuple(label.decode() for label in labels) == LABELS


def test_labels_and_card_are_inside_every_file(exported: Exported) -> None:
    import h5py

    def of_zip(name: str) -> dict[str, str]:
        with zipfile.ZipFile(exported.into / name) as archive:
            assert archive.testzip() is None
            return {n: archive.read(n).decode() for n in archive.namelist() if "json" in n}

    with h5py.File(exported.into / "model.h5") as file:
        h5 = {name: file[name][()].decode() for name in ("labels.json", "croplake.json")}
    beside = exported.into / "savedmodel" / "assets.extra"
    found = [
        of_zip("model.keras"),
        of_zip("model.tflite"),
        h5,
        {path.name: path.read_text() for path in beside.iterdir()},
    ]
    for texts in found:
        assert tuple(json.loads(texts["labels.json"])) == LABELS
        card = json.loads(texts["croplake.json"])
        assert card["model_id"] == MODEL_ID
        assert card["settings"]["input_side_px"] == SIDE_PX
    with zipfile.ZipFile(exported.into / "model.tflite") as archive:
        lines = archive.read("labels.txt").decode().split("\n")
    assert lines == [*(label.replace("\n", " ") for label in LABELS), ""]


def test_tflites_metadata_names_the_labels_file(exported: Exported) -> None:
    from tensorflow.lite.tools import flatbuffer_utils

    content = bytearray((exported.into / "model.tflite").read_bytes())
    model = flatbuffer_utils.convert_bytearray_to_object(content)
    assert len(model.subgraphs) == 1
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    told = bytes(model.buffers[entry.buffer].data)
    assert told[4:8] == b"M001"
    assert b"labels.txt" in told
    assert b"Open Images" in told


def test_the_readme_and_the_card_tell_whose_pictures_and_how_good(exported: Exported) -> None:
    text = (exported.into / "README.txt").read_text()
    assert f"Model {MODEL_ID}" in text
    assert "Dataset fruit, version 0 of the lake's examples" in text
    assert re.search(r"\b2  CC BY 2.0, https://creativecommons.org/licenses/by/2.0/", text)
    assert re.search(r"\b1  licence not given", text)
    assert "Open Images V7, by Google LLC, CC BY 4.0" in text
    assert "top-1 on the test split of version 0: 87.50% of 8 crops" in text
    card = json.loads((exported.into / "croplake.json").read_text())
    assert set(card["formats"]) == set(FORMATS)
    assert all(told["greatest_difference"] < 1e-3 for told in card["formats"].values())
    assert card["tables_read"] == {"examples": 0}
    assert card["settings"]["weights"] == "none"


def code_blocks(file: Path) -> list[str]:
    """Python of a README, without empty lines."""
    found = re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)
    return [re.sub(r"\n+", "\n", block) for block in found]


def test_three_lines_of_the_readmes_classify_a_jpeg_without_croplake(
    exported: Exported, tmp_path: Path
) -> None:
    blocks = code_blocks(exported.into / "README.txt")
    assert len(blocks) == len(FORMATS)
    blocks += [block for block in code_blocks(REPOSITORYS) if "classify_jpegs" in block]
    assert len(blocks) == len(FORMATS) + 1
    assert all(len(block.splitlines()) == 3 for block in blocks)
    crop = draw_crops(1, seed=21)[0]
    tmp_path.joinpath("away").symlink_to(exported.into)
    script = ["import os, sys", "os.chdir('away')"]
    script += [f"exec({block!r}, {{}})" for block in blocks]
    script += ["assert not [name for name in sys.modules if name.startswith('croplake')]"]
    photo = exported.into / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 8  # as a telephone that was held upright
    Image.fromarray(np.rot90(crop, -1)).save(photo, quality=95, exif=exif)
    try:
        answer = subprocess.run(
            [sys.executable, "-I", "-c", "\n".join(script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    finally:
        photo.unlink()
    assert answer.returncode == 0, answer.stderr
    expected = LABELS[int(exported.expected([crop]).argmax())]
    assert [line for line in answer.stdout.splitlines() if line == expected] == [expected] * 5


@pytest.mark.full
@pytest.mark.parametrize("num_classes", [1, 601])
def test_one_category_and_601(num_classes: int, tmp_path: Path) -> None:
    labels = [f"category {number} {'ü' * 100}" for number in range(num_classes)]
    exported = make_export(tmp_path, build_model(num_classes, base=TWO_LAYERS), labels)
    crops = [fit(crop, SIDE_PX) for crop in draw_crops(4)]
    for format in FORMATS:
        answers_NC = exported.answers(format, crops)
        assert answers_NC.shape == (4, num_classes)
        np.testing.assert_allclose(answers_NC, exported.expected(crops), atol=1e-3)


@pytest.mark.full
@pytest.mark.parametrize(("quantization", "greatest"), [("float16", 0.6), ("dynamic", 0.4)])
def test_quantized_weights_take_less_room(
    quantization: str, greatest: float, tmp_path: Path
) -> None:
    settings = make_model_lake(tmp_path, build_model(10), LABELS)
    sizes = {}
    for name in ("none", quantization):
        conf = settings.model_copy(
            update={"export_model": settings.export_model.model_copy(update={"quantization": name})}
        )
        export_model(conf, Request("latest", ("tflite",), str(tmp_path / name)))
        sizes[name] = (tmp_path / name / "model.tflite").stat().st_size
    assert sizes[quantization] < greatest * sizes["none"]


@pytest.mark.full
def test_a_base_that_h5_does_not_bring_back_is_left_out_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_model_lake(tmp_path, build_model(3, base="MobileNetV3Small"), LABELS[:3])
    into = tmp_path / "away"
    with pytest.raises(SettingsError, match=r"cannot be had as h5: .*; nothing was written"):
        export_model(settings, Request(MODEL_ID, ("h5", "keras"), str(into)))
    assert not (into / "model.keras").exists()
    export_model(settings, Request(MODEL_ID, (), str(into)))
    assert "h5 is left out: " in capsys.readouterr().out
    assert not (into / "model.h5").exists()
    assert "h5" in json.loads((into / "croplake.json").read_text())["skipped"]
    assert "model.h5" not in (into / "README.txt").read_text()


def test_a_damaged_model_is_named(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = hand_made_settings(tmp_path)
    shutil.copytree(exported.settings.lake.root, settings.lake.root)
    file = Path(settings.lake.root, "models", MODEL_ID, "model.keras")
    file.write_bytes(file.read_bytes()[:20_000])
    conf = str(tmp_path / "conf.yaml")
    assert main(["export-model", "--conf", conf, "--into", str(tmp_path / "away")]) == 4
    said = capsys.readouterr().err
    assert f"{MODEL_ID}/model.keras: Keras cannot load it" in said
    assert not (tmp_path / "away" / "croplake.json").exists()


def test_a_file_that_answers_otherwise_is_no_export(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from croplake.model_export import writing

    def answer(path: Path, pictures_NHWC: Any) -> Any:  # noqa: ANN401
        assert path.name == "model.keras"
        assert path.exists()
        return np.full((len(pictures_NHWC), len(LABELS)), 0.1, np.float32)

    monkeypatch.setitem(writing.READERS, "keras", answer)
    job = ExportJob(
        file=str(exported.into / "model.keras"),
        name="model.keras",
        labels=LABELS,
        card={},
        formats=("keras",),
        quantization="none",
        folder=str(tmp_path),
    )
    answered = export(job)
    assert not answered.differences
    assert "loaded again it answers otherwise: " in answered.reasons["keras"]


@pytest.mark.full
def test_a_model_trained_in_mixed_precision_comes_out_in_every_format(tmp_path: Path) -> None:
    import keras

    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = build_model(3, base=TWO_LAYERS)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert model.get_layer("base").layers[0].compute_dtype == "float16"
    exported = make_export(tmp_path, model, LABELS[:3])
    crops = [fit(crop, SIDE_PX) for crop in draw_crops(20)]
    expected_NC = exported.expected(crops)
    assert len(set(expected_NC.argmax(axis=1))) == 3
    for format in FORMATS:
        np.testing.assert_allclose(exported.answers(format, crops), expected_NC, atol=0.02)


@pytest.mark.full
def test_labels_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    settings = make_model_lake(tmp_path, build_model(3, base=TWO_LAYERS), LABELS[:2])
    with pytest.raises(InputDataError, match=r"has 3 outputs, its labels\.json 2"):
        export_model(settings, Request("latest", ("keras",), str(tmp_path / "away")))
