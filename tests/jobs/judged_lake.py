"""A small lake with a test split that three tiny models answer: red is Apple, blue is Pear."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from croplake import tables as t
from croplake.jobs.fetch_plan import recipe_of
from tests.jobs.small_lake import CATEGORIES, FETCHED_AT, SmallLake, class_row
from tests.jobs.world import APPLE, FRUIT, PEAR

KEEN, DULL, NEW = "fruit-keen", "fruit-dull", "fruit-new"
"""Keen tells all colours apart, dull takes purple for red, new is as keen, of a later snapshot."""
RED, BLUE, PURPLE = (230, 20, 20), (20, 20, 230), (150, 20, 180)
WEIGHTS = {KEEN: (0.02, 0.02), DULL: (0.03, 0.02), NEW: (0.02, 0.02)}
"""What a shade of red says for Apple, and one of blue for Pear."""
CASES: list[tuple[str, int, tuple[int, int, int], dict[str, Any]]] = [
    *[(f"{n:016x}", 0, RED, {t.BOX_AREA_FRAC: 0.01}) for n in range(100, 106)],
    *[(f"{n:016x}", 1, BLUE, {t.BOX_AREA_FRAC: 0.1, t.IS_OCCLUDED: 1}) for n in range(100, 104)],
    *[
        (f"{n:016x}", 1, PURPLE, {t.BOX_AREA_FRAC: 0.5, t.IS_TRUNCATED: -1})
        for n in (106, 107, 108)
    ],
    (f"{109:016x}", 0, PURPLE, {t.BOX_AREA_FRAC: 0.2}),  # only the dull one is right
    (f"{110:016x}", 1, RED, {t.BOX_AREA_FRAC: 0.2}),  # nobody is
]
"""Photo, label, colour and what else is odd; box `j<number>` each."""
MISTAKEN_PHOTO = f"{110:016x}"


def colour_jpeg(colour: tuple[int, int, int]) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(target, "JPEG", quality=95)
    return target.getvalue()


def save_model(folder: Path, weights: tuple[float, float], labels: list[str]) -> None:
    keras = pytest.importorskip("keras")
    dense = keras.layers.Dense(len(labels), activation="softmax")
    pooling = keras.layers.GlobalAveragePooling2D()
    network = keras.Sequential([keras.Input((None, None, 3)), pooling, dense])
    matrix = np.zeros((3, len(labels)))
    matrix[0, 0], matrix[2, 1] = weights
    dense.set_weights([matrix, np.zeros(len(labels))])
    folder.mkdir(parents=True, exist_ok=True)
    network.save(folder / "model.keras")
    (folder / "labels.json").write_text(json.dumps(labels))
    (folder / "settings.json").write_text(json.dumps({"input_side_px": 32}))
    history = [
        {"epoch": 1.0, "phase": 1.0, "loss": 0.9, "accuracy": 0.5, "learning_rate": 1e-3},
        {"epoch": 2.0, "phase": 2.0, "loss": 0.4, "accuracy": 0.9, "learning_rate": 1e-4},
    ]
    (folder / "history.json").write_text(json.dumps(history))


def example_row(small: SmallLake, number: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    image_id, label, colour, odd = CASES[number]
    key = f"fruit|{recipe_of(small.settings.fetch).recipe_id}|j{number}"
    row = small.example("b1") | {
        t.EXAMPLE_ID: hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(),
        t.BOX_ID: f"j{number}",
        t.IMAGE_ID: image_id,
        t.LABEL_INDEX: label,
        t.CATEGORY: [*CATEGORIES.values()][label],
        t.IMAGE: colour_jpeg(colour),
        t.SPLIT: "test",
        t.SUBSET: "test",
    }
    return row | odd | changes


def judge(small: SmallLake) -> SmallLake:
    """Adds the split, the models and what the lake knows of the boxes."""
    parents = {t.PARENT_MIDS: [FRUIT]}
    small.put(t.CLASSES, *(class_row(mid) | parents for mid in (APPLE, PEAR)))
    small.add(t.EXAMPLES, *(example_row(small, number) for number in range(len(CASES))))
    old = small.lake.version(t.EXAMPLES)
    in_training = example_row(small, 0, split="train", example_id="later")
    small.add(t.EXAMPLES, in_training)
    new = small.lake.version(t.EXAMPLES)
    recipe_id = recipe_of(small.settings.fetch).recipe_id
    crop = small.crop("a1") | {t.RECIPE_ID: recipe_id}
    small.add(
        t.CROPS,
        crop | {t.BOX_ID: "j0", t.SOURCE: "original"},
        crop | {t.BOX_ID: "j1", t.SOURCE: "mirror"},
        crop | {t.BOX_ID: "j2", t.SOURCE: "thumbnail", t.RECIPE_ID: "another"},
    )
    box = {t.IMAGE_ID: MISTAKEN_PHOTO, t.SUBSET: "test", t.LABEL_MID: APPLE}
    small.add(t.BOXES, *(box | {t.BOX_ID: f"j{n}", t.SOURCE: "xclick"} for n in range(10)))
    small.add(t.BOXES, box | {t.BOX_ID: "j10", t.SOURCE: "activemil"})
    fetch = small.settings.fetch
    recipe = fetch.recipe.model_copy(update={"max_side_px": 64})
    # What fetches next says nothing of what the examples were cut by.
    trained_under = small.settings.model_copy(
        update={"fetch": fetch.model_copy(update={"recipe": recipe})}
    )
    for place, (model_id, weights) in enumerate(WEIGHTS.items()):
        save_model(small.folder / "models" / model_id, weights, [*CATEGORIES.values()])
        read = {t.EXAMPLES.name: new if model_id == NEW else old}
        changes = {
            t.MODEL_ID: model_id,
            t.TABLES_READ: read,
            t.ENDED_AT: FETCHED_AT,
            t.SETTINGS: trained_under.model_dump_json(),
        }
        small.add(t.RUNS, small.run(f"s{place}", "train_classifier", **changes))
    return small
