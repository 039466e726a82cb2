"""What is told of an exported model: where it comes from, how good it is, how to load it."""

from __future__ import annotations

import json
from typing import Any, Final

import pyarrow.dataset as pads

from croplake import __version__, storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.metrics import NUM_EXAMPLES, TOP1
from croplake.inference.model import SETTINGS_FILE
from croplake.model_export.formats import CARD, LABELS, PLACES, Format
from croplake.models import TrainedModel
from croplake.reader import LakeReader
from croplake.report.credit import licence_name

ANNOTATIONS: Final = (
    "Open Images V7, by Google LLC, CC BY 4.0, "
    "https://storage.googleapis.com/openimages/web/index.html"
)
_HISTORY_FILE: Final = "history.json"
_SHOWN_LICENCES: Final = 8

_KERAS: Final = """\
import json, keras, numpy as np, zipfile; from PIL import Image, ImageOps
model, labels = keras.models.load_model("model.keras"), json.loads(zipfile.ZipFile("model.keras").read("labels.json"))
print(labels[model.predict(np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))[None]).argmax()])
"""  # noqa: E501
_H5: Final = """\
import h5py, json, keras, numpy as np; from PIL import Image, ImageOps
model, labels = keras.models.load_model("model.h5"), json.loads(h5py.File("model.h5")["labels.json"][()])
print(labels[model.predict(np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))[None]).argmax()])
"""  # noqa: E501
_SAVEDMODEL: Final = """\
import tensorflow as tf
model = tf.saved_model.load("savedmodel")
print(model.classify_jpegs(tf.io.read_file("photo.jpg")[None])["label"][0].numpy().decode())
"""
_TFLITE: Final = """\
import json, numpy as np, tensorflow as tf, zipfile; from PIL import Image, ImageOps
model, labels = tf.lite.Interpreter("model.tflite").get_signature_runner(), json.loads(zipfile.ZipFile("model.tflite").read("labels.json"))
print(labels[model(image=np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB").resize(({side_px}, {side_px}), Image.Resampling.BILINEAR))[None])["probabilities"].argmax()])
"""  # noqa: E501
_HOW: Final[dict[Format, tuple[str, str]]] = {
    "keras": (
        "RGB pictures of any size, 0 to 255, (N, height, width, 3) → probabilities (N, C).\n"
        "labels.json and croplake.json are members of the file, which is a zip.",
        _KERAS,
    ),
    "h5": (
        "As model.keras; labels.json and croplake.json are datasets of the file, which is HDF5.",
        _H5,
    ),
    "savedmodel": (
        "Signatures: serving_default (images: uint8 RGB of any size → probabilities), labels, and\n"
        "classify_jpegs (jpegs: N JPEG or PNG files, bytes → label, probability, probabilities).\n"
        "It turns JPEGs upright by the orientation in their EXIF or XMP.",
        _SAVEDMODEL,
    ),
    "tflite": (
        "A uint8 RGB picture of this size, (1, {side_px}, {side_px}, 3) → probabilities (1, C).\n"
        "TFLite's metadata names labels.txt, which is in the file as labels.json is: MediaPipe's\n"
        "ImageClassifier takes it so. ai_edge_litert.interpreter.Interpreter does what\n"
        "tf.lite.Interpreter does.",
        _TFLITE,
    ),
}
_README: Final = """\
Model {model_id}, exported by croplake {version}: a classifier of {num} categories (C), listed in
{labels} by their index. All that it needs, scaling of the pixels included, is inside each file.

{how}
What it was trained on
----------------------
Dataset {dataset}{snapshot}; the pictures are crops of photos of Open Images.
{licences}
The annotations (boxes, classes, splits): {annotations}.
Open Images names the licences of photos as it found them and warrants none.

How good it is
--------------
{figures}

{card} tells all this, and the settings of the training, to programs.
"""


def describe(lake: LakeReader, model: TrainedModel, num_labels: int) -> dict[str, Any]:
    """All that the lake knows of a model, as JSON holds it."""
    return {
        "model_id": model.model_id,
        "exported_by": f"croplake {__version__}",
        "dataset": model.dataset,
        "num_labels": num_labels,
        "trained_at": model.run[t.ENDED_AT].isoformat() if model.run[t.ENDED_AT] else None,
        "tables_read": model.run[t.TABLES_READ],
        "settings": _read_json(storage.join(model.folder, SETTINGS_FILE)),
        "history": _read_json(storage.join(model.folder, _HISTORY_FILE)),
        "evaluations": _evaluations(lake, model),
        "licences": _licences(lake, model),
        "annotations": ANNOTATIONS,
    }


def _read_json(uri: str) -> Any:  # noqa: ANN401  # anything JSON holds
    """A file of the model's folder; None where it is not there."""
    if not storage.exists(uri):
        return None
    try:
        return json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise InputDataError(f"{uri}: is no JSON: {error}") from error


def _evaluations(lake: LakeReader, model: TrainedModel) -> dict[str, dict[str, float]]:
    """Split to the figures of its last evaluation on the examples of its training.

    Where it stood beside a model of another version of the examples, its figures are of that one.
    """
    if not lake.exists(t.EVALUATIONS.name):
        return {}
    version = model.run[t.TABLES_READ].get(t.EXAMPLES.name)
    runs = lake.dataset(t.RUNS.name).to_table([t.RUN_ID, t.TABLES_READ]).to_pylist()
    of_version = {
        run[t.RUN_ID]
        for run in runs
        if dict(run[t.TABLES_READ] or ()).get(t.EXAMPLES.name) == version
    }
    is_of_model = (pads.field(t.MODEL_ID) == model.model_id) & (
        pads.field(t.DATASET) == model.dataset
    )
    is_whole = pads.field(t.METRIC).isin([TOP1, NUM_EXAMPLES])
    for column in (t.CATEGORY, t.SLICE, t.OTHER_MODEL_ID):
        is_whole &= pads.field(column).is_null()
    rows = lake.dataset(t.EVALUATIONS.name).to_table(filter=is_of_model & is_whole).to_pylist()
    found: dict[str, dict[str, float]] = {}
    for row in sorted(rows, key=lambda row: str(row[t.RUN_ID])):  # run ids sort by time
        if row[t.RUN_ID] in of_version:
            found.setdefault(row[t.SPLIT], {})[row[t.METRIC]] = row[t.VALUE]
    return found


def _licences(lake: LakeReader, model: TrainedModel) -> dict[str, int] | None:
    """Pictures of the training split by licence; None where that version is gone."""
    version = model.run[t.TABLES_READ].get(t.EXAMPLES.name)
    if version is None:
        return None
    where = (pads.field(t.DATASET) == model.dataset) & (pads.field(t.SPLIT) == t.SPLITS[0])
    try:
        counts = lake.count_by(t.EXAMPLES.name, [t.LICENSE], version=version, where=where)
    except (InputDataError, OSError):
        return None
    return {licence or "": num for (licence,), num in counts.most_common()}


def write_card(told: dict[str, Any], differences: dict[Format, float]) -> bytes:
    """`croplake.json` beside the files: what is inside them, and how well they agree."""
    formats = {
        format: {"path": PLACES[format], "greatest_difference": difference}
        for format, difference in differences.items()
    }
    return (json.dumps(told | {"formats": formats}, indent=1, ensure_ascii=False) + "\n").encode()


def write_readme(told: dict[str, Any], formats: list[Format], side_px: int) -> bytes:
    """`README.txt`: how to load each file, what it was trained on, how good it is."""
    version = told["tables_read"].get(t.EXAMPLES.name)
    text = _README.format(
        model_id=told["model_id"],
        version=__version__,
        num=told["num_labels"],
        labels=LABELS,
        how="\n".join(_section(format, side_px) for format in formats),
        dataset=told["dataset"],
        snapshot="" if version is None else f", version {version} of the lake's examples",
        licences=_licences_text(told["licences"]),
        annotations=told["annotations"],
        figures=_figures(told["evaluations"], "" if version is None else f" of version {version}"),
        card=CARD,
    )
    return text.encode()


def _section(format: Format, side_px: int) -> str:
    what, code = (text.replace("{side_px}", str(side_px)) for text in _HOW[format])
    title = PLACES[format]
    return f"{title}\n{'-' * len(title)}\n{what}\n\n```python\n{code}```\n"


def _licences_text(licences: dict[str, int] | None) -> str:
    if not licences:
        return "Their licences are not known any more: the version they were in is gone."
    total = sum(licences.values())
    lines = [f"Licences of the {total:,} pictures of the training split:"]
    for address, num in [*licences.items()][:_SHOWN_LICENCES]:
        name = licence_name(address)
        lines.append(f"  {num:>9,}  {name}{f', {address}' if address not in ('', name) else ''}")
    if more := len(licences) - _SHOWN_LICENCES:
        lines += [f"  and {more} more, in {CARD}"] if more > 0 else []
    return "\n".join(lines)


def _figures(evaluations: dict[str, dict[str, float]], of_version: str) -> str:
    lines = [
        f"top-1 on the {split} split{of_version}: {figures[TOP1]:.2%}"
        + (f" of {figures[NUM_EXAMPLES]:,.0f} crops" if NUM_EXAMPLES in figures else "")
        for split, figures in evaluations.items()
        if figures.get(TOP1) is not None
    ]
    return "\n".join(lines) or "It was not evaluated."
