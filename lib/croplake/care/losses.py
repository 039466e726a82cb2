"""Files that a model's training version lost to forgotten photos, noted beside the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from croplake import storage
from croplake.care.pins import Pin
from croplake.lake import Lake
from croplake.models import model_folder

_NOTE: Final = "forgotten.json"


def note_losses(lake: Lake, losing: Mapping[Pin, Iterable[str]]) -> None:
    """Writes into the models' folders which files of the versions they were trained on are gone."""
    for pin, paths in losing.items():
        if pin.model_id is None:
            continue
        noted = _read(lake, pin.model_id)
        noted[pin.table] = sorted({*noted.get(pin.table, ()), *paths})
        note = storage.join(model_folder(lake.root, pin.model_id), _NOTE)
        storage.write_bytes(note, json.dumps(noted, indent=2).encode())


def explained_losses(lake: Lake, pins: Iterable[Pin]) -> frozenset[str]:
    """The files of pinned versions of a table that went because of forgotten photos."""
    return frozenset(
        path
        for pin in pins
        if pin.model_id is not None
        for path in _read(lake, pin.model_id).get(pin.table, ())
    )


def _read(lake: Lake, model_id: str) -> dict[str, list[str]]:
    note = storage.join(model_folder(lake.root, model_id), _NOTE)
    if not storage.exists(note):
        return {}
    noted: dict[str, list[str]] = json.loads(storage.read_bytes(note))
    return noted
