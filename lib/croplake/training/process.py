"""A worker's own process: `python -m croplake.training.process SCRATCH_FOLDER`.

TensorFlow lives here and not in Spark's Python worker, which Spark forks, reuses for the next job
and may kill at any time. The job comes as a line of JSON on standard input, the answer goes as a
line to standard output. The process ends when its standard input does, so it never outlives the
task, and takes its scratch folder with it, which a killed task cannot; until then it stays, for
other workers may still need its last exchange.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from croplake import storage
from croplake.conf import TrainConf
from croplake.errors import CroplakeError, IncompleteError, SettingsError
from croplake.training.bases import find_base
from croplake.training.shards import ShardPlan

if TYPE_CHECKING:
    from croplake.training.loop import Data, Trained

MODEL_FILE: Final = "model.keras"
MODEL_H5_FILE: Final = "model.h5"
LABELS_FILE: Final = "labels.json"
HISTORY_FILE: Final = "history.json"
SETTINGS_FILE: Final = "settings.json"
TENSORBOARD_FOLDER: Final = "tensorboard"
_PEER_IS_GONE: Final = (
    "UnavailableError",
    "AbortedError",
    "CancelledError",
    "DeadlineExceededError",
    "InternalError",
)
"""TensorFlow's errors where another worker has gone in the middle of an exchange."""
_PORT_IS_TAKEN: Final = "Could not start gRPC server"
"""By another program, since it was reserved: with other ports it will go."""


class SplitFiles(BaseModel):
    """A split's files and the rows of their row groups."""

    files: tuple[str, ...]
    plan: ShardPlan


class WorkerJob(BaseModel):
    """What a worker is told."""

    conf: TrainConf
    train: SplitFiles
    validation: SplitFiles | None
    labels: tuple[str, ...]
    label_counts: tuple[int, ...]
    """Examples of the training split by label."""
    output_dir: str
    """Address of the model's folder."""
    checkpoint_dir: str
    """Address of the checkpoints' folder."""
    worker_index: int = 0
    local_rank: int = 0
    """Number of this worker among those on its machine."""
    num_local: int = 1
    """Workers on its machine."""
    num_threads: int = 1
    """Cores it computes with."""


def main() -> int:
    """Trains, answers, waits to be released."""
    job = WorkerJob.model_validate_json(sys.stdin.readline())
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # What TensorFlow or Keras print must not mix with the answer.
        done = threading.Event()
        ends = (done, sys.argv[1])
        watch = threading.Thread(target=_end_with_standard_input, args=ends, daemon=True)
        watch.start()
        try:
            answer = train(job)
        except CroplakeError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        except Exception as error:  # whatever it is, the task has to hear of it
            answer = {"error": traceback.format_exc(), "kind": _kind_of(error)}
            if answer["kind"] == SettingsError.__name__:
                answer["error"] = (
                    "a worker's memory (its GPU's, where it has one) is too small for "
                    "train.batch_size: "
                    f"{job.conf.batch_size} at train.input_side_px: {job.conf.input_side_px}; "
                    f"make one of them smaller ({error})"
                )
        done.set()
        answers.write(json.dumps(answer) + "\n")
    watch.join()
    return 0


def _kind_of(error: Exception) -> str:
    """What follows from an exception of TensorFlow's, or of ours."""
    name = type(error).__name__
    if name in _PEER_IS_GONE or _PORT_IS_TAKEN in str(error):
        return "lost"
    return SettingsError.__name__ if name == "ResourceExhaustedError" else "defect"


def _end_with_standard_input(done: threading.Event, scratch: str) -> None:
    while sys.stdin.read(1):
        pass
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0 if done.is_set() else 1)


def train(job: WorkerJob) -> dict[str, Any]:
    """Runs one worker's part of a training; TF_CONFIG names the others.

    Returns:
        `history`: one record an epoch; `epoch`: whose weights the model has; `digest`: SHA-256 of
        the weights; `notes`: what to tell the user.
    """
    import tensorflow as tf

    from croplake.training.checkpoints import Checkpoints
    from croplake.training.loop import train_classifier
    from croplake.training.observing import Observers, TensorBoard, import_callbacks

    tf.config.threading.set_intra_op_parallelism_threads(job.num_threads)
    tf.config.threading.set_inter_op_parallelism_threads(max(2, job.num_threads))
    _take_gpu(job)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    callbacks = import_callbacks(job.conf.callbacks)
    if job.conf.tensorboard:
        callbacks.append(TensorBoard(storage.join(job.output_dir, TENSORBOARD_FOLDER)))
    is_first = job.worker_index == 0
    observers = Observers(callbacks) if is_first else None
    with tempfile.TemporaryDirectory(prefix="croplake-model-") as scratch:
        try:
            trained = train_classifier(
                strategy,
                job.conf,
                _data(job),
                num_classes=len(job.labels),
                worker_index=job.worker_index,
                checkpoints=Checkpoints(job.checkpoint_dir),
                on_epoch=observers.tell if observers else lambda record: None,
            )
            if is_first:
                _save(job, trained, Path(scratch))
        except OSError as error:
            raise _unwritten(job, error) from error
    return {
        "history": trained.history,
        "epoch": trained.epoch,
        "digest": digest_weights(trained.model.get_weights()),
        "notes": observers.notes if observers else [],
    }


def _take_gpu(job: WorkerJob) -> None:
    """One GPU a worker, its memory as it is needed: evaluation may share it."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        if job.conf.gpus_per_worker:
            raise SettingsError(
                f"train.gpus_per_worker: {job.conf.gpus_per_worker}: worker {job.worker_index} was "
                f"given the GPU {os.environ.get('CUDA_VISIBLE_DEVICES')}, but TensorFlow finds "
                "none there; expected CUDA's libraries (pip install 'tensorflow[and-cuda]'), or "
                "set it to 0"
            )
        return
    # Spark shows a worker no other GPUs than those that it was given.
    is_given = bool(job.conf.gpus_per_worker)
    if not is_given and job.num_local > len(gpus):
        raise SettingsError(
            f"train.num_workers: {job.num_local} workers are on a machine of {len(gpus)} GPUs; "
            "train with at most one a GPU, or hide the GPUs (CUDA_VISIBLE_DEVICES=-1)"
        )
    own = gpus[0 if is_given else job.local_rank]
    tf.config.set_visible_devices(own, "GPU")
    tf.config.experimental.set_memory_growth(own, True)


def _data(job: WorkerJob) -> Data:
    from croplake.training.feeding import feed
    from croplake.training.stream import Shard

    conf = job.conf

    def shard(split: SplitFiles) -> Shard:
        return Shard(
            split.files, split.plan, job.worker_index, conf.reader_threads, conf.reader_bytes
        )

    return feed(
        conf,
        train=shard(job.train),
        validation=shard(job.validation) if job.validation else None,
        label_counts=job.label_counts,
        num_cores=job.num_threads,
    )


def digest_weights(weights: list[Any]) -> str:
    """SHA-256 of a model's weights, NumPy arrays in the model's order."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(f"{weight.shape} {weight.dtype}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _save(job: WorkerJob, trained: Trained, scratch: Path) -> None:
    """Writes the model's folder; `model.keras` comes last, and tells that all is there."""
    texts = {
        LABELS_FILE: list(job.labels),
        HISTORY_FILE: trained.history,
        SETTINGS_FILE: job.conf.model_dump(mode="json"),
    }
    for name, value in texts.items():
        scratch.joinpath(name).write_text(json.dumps(value, indent=2) + "\n")
    if find_base(job.conf.base).loads_from_h5:
        trained.model.save(scratch / MODEL_H5_FILE)
    storage.upload_folder(scratch, job.output_dir)
    trained.model.save(scratch / MODEL_FILE)
    storage.upload_file(scratch / MODEL_FILE, storage.join(job.output_dir, MODEL_FILE))


def _unwritten(job: WorkerJob, error: OSError) -> CroplakeError:
    text = (
        f"training could not read or write ({error}): the model goes to {job.output_dir}, its "
        f"checkpoints to {job.checkpoint_dir}"
    )
    if storage.is_refusal(error):
        return SettingsError(f"{text}; expected places that every worker can write to")
    return IncompleteError(f"{text}; make room, and run the same command again: it goes on")


if __name__ == "__main__":
    sys.exit(main())
