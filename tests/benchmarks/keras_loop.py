"""What a good engineer writes with Keras alone: a process of its own, without croplake."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf


def predict(folder: Path, photos: Path, batch_size: int, side_px: int) -> None:
    """Classifies all photos once for each line that comes in; says how many a second."""
    model = keras.models.load_model(folder / "model.keras", compile=False)

    def read(path: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.cast(tf.image.resize(image, (side_px, side_px)), tf.uint8)

    files = sorted(str(file) for file in photos.glob("*.jpg"))
    answered_at: list[float] = []
    # To its last answer: TensorFlow ends an iteration only when its tuning wakes up the next time,
    # which is after 5.12, 10.24, 20.48… s, and no fault of the loop.
    clock = keras.callbacks.LambdaCallback(
        on_predict_batch_end=lambda batch, logs: answered_at.append(time.monotonic())
    )
    for _ in sys.stdin:
        started = time.monotonic()
        batches = (
            tf.data.Dataset.from_tensor_slices(files)
            .map(read, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size)
            .prefetch(tf.data.AUTOTUNE)
        )
        answers = model.predict(batches, verbose=0, callbacks=[clock])
        print(len(answers) / (answered_at[-1] - started), flush=True)


if __name__ == "__main__":
    predict(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
