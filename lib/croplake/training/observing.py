"""Who looks at a training: they are told of each epoch, and change nothing."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from croplake import storage
from croplake.errors import SettingsError

_NOT_FIGURES = ("epoch",)

Callback = Callable[..., Any]
"""Is given an epoch's record; or a class, whose instance is."""


def import_callbacks(names: Sequence[str]) -> list[Callback]:
    """What `train.callbacks` names; on every worker, so that none begins where one could not.

    Args:
        names: each `module:name`.

    Raises:
        SettingsError: one cannot be imported, or called.
    """
    return [_import_callback(name) for name in names]


def _import_callback(name: str) -> Callback:
    module, _, attribute = name.partition(":")
    try:
        callback = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # whatever a module's own trouble is
        raise SettingsError(
            f"train.callbacks: {name} cannot be imported on this worker: {error!r}; expected "
            "module:name of a module on every worker's PYTHONPATH (spark-submit --py-files)"
        ) from error
    if not callable(callback):
        raise SettingsError(
            f"train.callbacks: {name} is {callback!r}; expected a function of an epoch's record, "
            "or a class of such"
        )
    found: Callback = callback
    return found


class Observers:
    """Those of the first worker; one that fails is left out from then on, the training goes on.

    Attributes:
        notes: what to tell the user of those that failed.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        """Begins.

        Raises:
            SettingsError: one is a class that cannot be called without arguments.
        """
        self.notes: list[str] = []
        self._observers = [_begin(callback) for callback in callbacks]

    def tell(self, record: dict[str, float]) -> None:
        """Tells all of an epoch's record."""
        for observer in list(self._observers):
            try:
                observer(dict(record))
            except (Exception, SystemExit) as error:  # whatever an observer's own trouble is
                self._observers.remove(observer)
                self.notes.append(
                    f"{observer!r} observes no more since epoch {record['epoch']:.0f}: {error!r}"
                )


def _begin(callback: Callback) -> Callback:
    if not isinstance(callback, type):
        return callback
    try:
        observer: Callback = callback()
    except (Exception, SystemExit) as error:  # whatever a class' own trouble is
        raise SettingsError(
            f"train.callbacks: {callback.__module__}:{callback.__qualname__}() failed: {error!r}; "
            "expected a class that is called without arguments"
        ) from error
    return observer


class TensorBoard:
    """Writes each epoch's figures where TensorBoard reads them, while the training runs."""

    def __init__(self, folder: str) -> None:
        """Begins nothing before the first epoch.

        Args:
            folder: address of a folder of its own, on any root.
        """
        self._folder = folder
        self._writer: Any = None
        self._scratch: Any = None

    def __repr__(self) -> str:
        return f"TensorBoard({self._folder!r})"

    def __call__(self, record: dict[str, float]) -> None:
        """Writes them down."""
        if self._writer is None:
            self._begin()
        with self._writer.as_default(step=int(record["epoch"])):
            for name, value in record.items():
                if name not in _NOT_FIGURES:
                    # What tf.summary.scalar does, without a package of TensorBoard's.
                    metadata = tf.compat.v1.SummaryMetadata(
                        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
                    )
                    tf.summary.write(
                        f"epoch/{name}", tf.constant(value, tf.float32), metadata=metadata
                    )
        self._writer.flush()
        if self._scratch is not None:
            storage.upload_folder(Path(self._scratch.name), self._folder)

    def _begin(self) -> None:
        storage.remove(self._folder)  # of an attempt that broke off: its epochs are told again
        if storage.is_local(self._folder):
            # In place: TensorBoard keeps the file open, and would not see one that replaces it.
            folder = storage.local_path(self._folder)
        else:
            self._scratch = tempfile.TemporaryDirectory(prefix="croplake-tensorboard-")
            folder = Path(self._scratch.name)
        self._writer = tf.summary.create_file_writer(str(folder))
