"""A saved model, loaded and asked; it tells red, green and blue apart."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from croplake.errors import InputDataError
from croplake.fetching.outcome import PhotoError
from croplake.inference.model import Classifier, load_classifier, read_labels, read_model_id

RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Resizing(8, 8),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    network.layers[-1].set_weights([np.eye(3) * 0.02, np.zeros(3)])
    folder = tmp_path_factory.mktemp("model")
    network.save(folder / "model.keras")
    (folder / "labels.json").write_text(json.dumps(["red", "green", "blue"]))
    (folder / "settings.json").write_text(json.dumps({"input_side_px": 32, "epochs": 1}))
    return folder


@pytest.fixture(scope="session")
def classifier(model_folder: Path) -> Classifier:
    return load_classifier(str(model_folder))


def jpeg(colour: tuple[int, int, int], width: int = 50, height: int = 30) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(target, "JPEG", quality=95)
    return target.getvalue()


def solid(colour: tuple[int, int, int], width: int = 50, height: int = 30) -> Any:  # noqa: ANN401
    return np.full((height, width, 3), colour, dtype=np.uint8)


def test_jpegs_and_photos_of_any_size_get_the_networks_answer(classifier: Classifier) -> None:
    colours = [RED, GREEN, BLUE, (0, 0, 0)]
    pixels = np.array(colours, dtype=np.float64)
    expected = np.exp(0.02 * pixels)
    expected /= expected.sum(axis=1, keepdims=True)
    sizes = [(50, 30), (31, 32), (400, 9), (1, 1)]
    shapes = list(zip(colours, sizes, strict=True))
    photos = [classifier.fit_photo(solid(colour, *size)) for colour, size in shapes]
    crops = [classifier.decode_jpeg(jpeg(colour, *size)) for colour, size in shapes]
    for squares in (photos, crops):
        answer = classifier.predict(np.stack(squares))
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected, atol=0.01)


def test_many_pictures_and_none_have_as_many_answers(classifier: Classifier) -> None:
    squares = np.stack([np.full((32, 32, 3), index % 256, np.uint8) for index in range(300)])
    answers = classifier.predict(squares)
    assert answers.shape == (300, 3)
    np.testing.assert_allclose(answers[299:], classifier.predict(squares[299:]), atol=1e-6)
    assert classifier.predict(squares[:0]).shape == (0, 3)


def test_a_large_photo_is_averaged_not_sampled(classifier: Classifier) -> None:
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(classifier.fit_photo(stripes).astype(int) - 127).max() <= 2


def test_a_photo_is_squeezed_as_a_crop_is_in_training(classifier: Classifier) -> None:
    small = np.random.default_rng(4).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    for size in ((700, 300), (33, 90), (20, 15)):
        target = io.BytesIO()
        Image.fromarray(small).resize(size).save(target, "JPEG", quality=95)
        photo = np.asarray(Image.open(target).convert("RGB"))
        fitted = classifier.fit_photo(photo).astype(int)
        in_training = classifier.decode_jpeg(target.getvalue()).astype(int)
        assert np.abs(fitted - in_training).max() <= 4


def test_crops_are_decoded_as_in_training(classifier: Classifier) -> None:
    tf = pytest.importorskip("tensorflow")
    from croplake.training.decoding import decode_image

    noise = np.random.default_rng(3).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(noise).save(target, "JPEG")
    expected = decode_image(tf.constant(target.getvalue()), 32).numpy()
    np.testing.assert_array_equal(classifier.decode_jpeg(target.getvalue()), expected)


def test_a_crop_that_is_no_jpeg_has_a_named_failure(classifier: Classifier) -> None:
    with pytest.raises(PhotoError, match="broken_photo"):
        classifier.decode_jpeg(b"no JPEG")


def test_a_model_is_loaded_once_in_a_process(model_folder: Path, classifier: Classifier) -> None:
    assert load_classifier(str(model_folder)) is classifier
    assert classifier.categories == ("red", "green", "blue")


def test_an_exported_model_needs_no_settings_beside_it(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "away"
    shutil.copytree(model_folder, folder)
    (folder / "settings.json").unlink()
    (folder / "croplake.json").write_text(json.dumps({"model_id": "m", "input_side_px": 32}))
    assert load_classifier(str(folder)).side_px == 32
    assert read_model_id(str(folder / "model.keras")) is None, "another may lie beside it"


@pytest.mark.parametrize("content", [b"", b"torn", b"PK\5\6" + bytes(18)])
def test_what_tells_no_model_id_has_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.keras").write_bytes(content)
    assert read_model_id(str(tmp_path / "a.keras")) is None
    assert read_model_id(str(tmp_path / "none.h5")) is None


def test_the_file_of_a_model_stands_for_its_folder(model_folder: Path) -> None:
    file = str(model_folder / "model.keras")
    assert read_labels(file) == ("red", "green", "blue")
    answer = load_classifier(file).predict(solid(BLUE, 32, 32)[None])
    assert answer.argmax() == 2


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("labels.json", None, r"labels\.json"),
        ("labels.json", "{}", "a JSON list of distinct category names"),
        ("labels.json", '["red", "red", "blue"]', "a JSON list of distinct category names"),
        ("labels.json", '["red", "green"]', "has 3 outputs, its labels.json has 2 labels"),
        ("settings.json", "{}", "input_side_px must be a number of pixels, got None"),
        ("settings.json", "no JSON", r"settings\.json"),
        ("model.keras", None, "no such model"),
        ("model.keras", "no zip", r"Keras cannot load it: it is no whole \.keras file"),
    ],
)
def test_a_broken_model_folder_is_named_with_its_file(
    model_folder: Path, tmp_path: Path, file: str, content: str | None, said: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(InputDataError, match=said) as caught:
        load_classifier(str(folder))
    assert str(folder) in str(caught.value)
