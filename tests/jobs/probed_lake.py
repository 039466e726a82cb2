"""A small lake with crops of plain colours, and a network that says a picture's mean colour."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from croplake import tables as t
from croplake.conf import Settings
from croplake.jobs import probe_examples
from croplake.jobs.context import JobContext
from croplake.jobs.way import run_job
from tests.jobs.small_lake import ATTRIBUTION, SmallLake, copy_small_lake
from tests.jobs.world import APPLE, PEAR

SPLITS = ("train", "train", "train", "train", "validation", "test")
"""Splits of the crops of a category, in their order."""
NUM_EACH = len(SPLITS)
BROKEN = "f" * 32
"""A box of the test split whose crop does not decode."""
MODEL_ID = "fruit-older"
"""The model that `add_model` adds."""


def box_id_of(number: int) -> str:
    return f"{number:032x}"


def image_id_of(number: int) -> str:
    return f"{number + 0xABC0:016x}"


def colour_of(number: int) -> tuple[int, int, int]:
    """Apples are reds, pears greens; the further a number, the more of blue there is."""
    blue = 20 * (number % NUM_EACH)
    return (220, 30, blue) if number < NUM_EACH else (30, 220, blue)


def jpeg(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def crop_of(small: SmallLake, number: int) -> dict[str, Any]:
    changes = {
        t.BOX_ID: box_id_of(number),
        t.IMAGE_ID: image_id_of(number),
        t.LABEL_MID: APPLE if number < NUM_EACH else PEAR,
        t.JPEG: jpeg(colour_of(number)),
        t.TITLE: f"<script>alert({number})</script> Ä {number}",
    }
    return small.crop("a1") | changes


def example_of(
    small: SmallLake, crop: dict[str, Any], split: str, dataset: str = "fruit"
) -> dict[str, Any]:
    row = small.example("a1", dataset) | {name: crop[name] for name in (t.BOX_ID, t.IMAGE_ID)}
    is_pear = crop[t.LABEL_MID] == PEAR
    key = f"{dataset}|{crop[t.RECIPE_ID]}|{crop[t.BOX_ID]}"
    return row | {
        t.EXAMPLE_ID: hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(),
        t.SPLIT: split,
        t.IMAGE: crop[t.JPEG],
        t.LABEL_INDEX: int(is_pear),
        t.CATEGORY: "Pear" if is_pear else "Apple",
        t.TITLE: crop[t.TITLE],
    }


def fill(small: SmallLake) -> None:
    """Puts the colours in the place of the lake's crops and examples."""
    crops = [crop_of(small, number) for number in range(2 * NUM_EACH)]
    broken = crops[-1] | {t.BOX_ID: BROKEN, t.JPEG: b"torn"}
    small.put(t.CROPS, *crops, broken)
    examples = [
        example_of(small, crop, SPLITS[number % NUM_EACH]) for number, crop in enumerate(crops)
    ]
    photos = [
        {
            **ATTRIBUTION,
            t.IMAGE_ID: image_id_of(number),
            t.SUBSET: "train",
            t.LANDING_URL: f"https://www.flickr.com/photos/ann/{number}",
        }
        for number in range(2 * NUM_EACH)
    ]
    small.add(t.PHOTOS, *photos)
    small.put(t.EXAMPLES, *examples[:5], example_of(small, broken, "test"))
    small.add(t.EXAMPLES, *examples[5:])
    small.put(t.NEAR_DUPLICATES)
    small.put(t.RUNS)


def save_network(folder: Path, scale: float = 1 / 255) -> str:
    """A model as croplake trains them, in a folder of its own."""
    keras = pytest.importorskip("keras")
    layers = keras.layers
    pictures = keras.Input((None, None, 3), dtype="uint8", name="image")
    pooled = layers.GlobalAveragePooling2D(name="embedding")(layers.Rescaling(scale)(pictures))
    softmax = layers.Dense(2, activation="softmax", name="probabilities")
    model = keras.Model(pictures, softmax(pooled))
    softmax.set_weights([np.array([[4.0, 0.0], [0.0, 4.0], [0.0, 0.0]]), np.zeros(2)])
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    (folder / "labels.json").write_text(json.dumps(["Apple", "Pear"]))
    (folder / "settings.json").write_text(json.dumps({"input_side_px": 32}))
    return str(folder / "model.keras")


@dataclass(frozen=True)
class ProbedLake:
    """The lake, and what its probe did and printed."""

    small: SmallLake
    context: JobContext
    said: str


def probe(small: SmallLake, settings: Settings | None = None) -> tuple[JobContext, str]:
    """Runs the job; its context, and what it printed."""
    console = Console(file=io.StringIO(), width=200, record=True)
    context = run_job(small.spark, probe_examples.JOB, settings or small.settings, console)
    return context, console.export_text()


def make_probed_lake(original: SmallLake, folder: Path) -> ProbedLake:
    """A lake of colours, probed by a network that is nowhere else any more."""
    small = copy_small_lake(original, folder)
    fill(small)
    network = save_network(folder / "networks of mine")
    settings = with_changes(small.settings, "probe", network=network, crops_per_commit=4)
    return ProbedLake(small, *probe(small, settings))


def with_changes(settings: Settings, part: str, **changes: Any) -> Settings:  # noqa: ANN401
    """The settings with some of a part changed."""
    old = getattr(settings, part)
    return settings.model_copy(update={part: old.model_copy(update=changes)})


def add_model(small: SmallLake, version: int, dataset: str = "fruit") -> None:
    """A model of the lake that has been trained on a version of its examples."""
    save_network(small.folder / "models" / MODEL_ID, scale=1 / 200)
    changes: dict[str, Any] = {
        t.MODEL_ID: MODEL_ID,
        t.TABLES_READ: {"examples": version},
        t.DATASET: dataset,
    }
    small.add(t.RUNS, small.run("r9", "train_classifier", **changes))
