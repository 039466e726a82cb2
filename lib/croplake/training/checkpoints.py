"""Checkpoints of a training: one an epoch, on any root, the marker last."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from croplake import storage
from croplake.errors import IncompleteError, InputDataError
from croplake.training.decisions import Progress

MARKER: Final = "last.json"
"""Names the newest complete checkpoint, and has the history up to it."""

Arrays = list[NDArray[Any]]


class Marker(BaseModel):
    """What stands in the marker.

    Attributes:
        file: of the checkpoint, in the same folder.
        progress: where the training is.
        history: one record an epoch.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")  # an epoch's loss may be no number

    file: str
    progress: Progress
    history: list[dict[str, float]]


@dataclass(frozen=True)
class Checkpoint:
    """All that a training goes on from.

    Attributes:
        progress: where it is.
        history: one record an epoch.
        parts: values of variables by what they belong to, in its own order.
    """

    progress: Progress
    history: list[dict[str, float]]
    parts: Mapping[str, Arrays]


class Checkpoints:
    """The checkpoints of one training, in a folder of their own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes one, and then the marker; older ones are removed.

        Raises:
            OSError: there is no room, or the store does not answer.
        """
        name = f"epoch-{checkpoint.progress.num_epochs:05d}.npz"
        arrays = {
            f"{part}.{place:05d}": value
            for part, values in checkpoint.parts.items()
            for place, value in enumerate(values)
        }
        with tempfile.TemporaryDirectory(prefix="croplake-checkpoint-") as scratch:
            local = Path(scratch, name)
            np.savez(local, **arrays)
            storage.upload_file(local, storage.join(self._folder, name))
        marker = Marker(file=name, progress=checkpoint.progress, history=checkpoint.history)
        text = marker.model_dump_json().encode()
        storage.write_bytes(storage.join(self._folder, MARKER), text)
        for other in storage.names_in(self._folder):
            if other not in (name, MARKER):
                storage.remove(storage.join(self._folder, other))

    def last(self) -> Marker | None:
        """The newest complete one; None where there is none."""
        uri = storage.join(self._folder, MARKER)
        if not storage.exists(uri):
            return None
        try:
            marker = Marker.model_validate_json(storage.read_bytes(uri))
        except ValidationError:
            return None  # empty, as some stores leave a write that broke off
        there = storage.exists(storage.join(self._folder, marker.file))
        return marker if there else None

    def load(self, num_epochs: int) -> Checkpoint:
        """Reads the newest one.

        Args:
            num_epochs: that the first worker has found done in it.

        Raises:
            InputDataError: this worker finds another one, or it is broken.
        IncompleteError: the storage does not give it.
        """
        marker = self.last()
        found = marker.progress.num_epochs if marker else 0
        if marker is None or found != num_epochs:
            raise InputDataError(
                f"{self._folder}: the first worker goes on from a checkpoint of {num_epochs} "
                f"epochs, here one of {found} is found; expected a lake.root that all workers share"
            )
        uri = storage.join(self._folder, marker.file)
        try:
            # Whole: array by array, a store would be asked a thousand times.
            with np.load(BytesIO(storage.read_bytes(uri))) as arrays:
                parts: dict[str, Arrays] = {}
                for name in sorted(arrays.files):
                    parts.setdefault(name.rpartition(".")[0], []).append(arrays[name])
        except OSError as error:
            raise IncompleteError(
                f"{uri}: the checkpoint cannot be read now: {error}; run the same command again"
            ) from error
        except (ValueError, EOFError, BadZipFile) as error:
            raise InputDataError(
                f"{uri}: the checkpoint cannot be read: {error}; remove its folder, and the "
                "training begins anew"
            ) from error
        return Checkpoint(marker.progress, marker.history, parts)

    def remove(self) -> None:
        """Removes them all."""
        storage.remove(storage.join(self._folder, MARKER))
        storage.remove(self._folder)


def read_history(folder: str) -> Sequence[dict[str, float]]:
    """The records of the epochs that are complete by now; none before the first."""
    marker = Checkpoints(folder).last()
    return marker.history if marker else []
