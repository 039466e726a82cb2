"""Who looks at a training: they are told of each epoch, and change nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from croplake.conf import TrainConf

_NOT_FIGURES = ("epoch",)


class Observers:
    """Those of the first worker; one that fails is left out from then on, the training goes on."""

    def __init__(
        self,
        conf: TrainConf,
        tensorboard_dir: Path,
        others: Sequence[Callable[[dict[str, float]], None]] = (),
    ) -> None:
        """Begins.

        Args:
            conf: of the training.
            tensorboard_dir: where TensorBoard's files go, if `conf.tensorboard`.
            others: further ones.
        """
        self._observers = list(others)
        if conf.tensorboard:
            self._observers.append(TensorBoard(tensorboard_dir))

    def tell(self, record: dict[str, float]) -> None:
        """Tells all of an epoch's record."""
        for observer in list(self._observers):
            try:
                observer(dict(record))
            except Exception as error:  # whatever an observer's own trouble is
                self._observers.remove(observer)
                warnings.warn(f"{observer!r} observes no more: {error!r}", stacklevel=2)


class TensorBoard:
    """Writes each epoch's figures where TensorBoard reads them."""

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def __call__(self, record: dict[str, float]) -> None:
        """Writes them down."""
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
