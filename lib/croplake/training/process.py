"""A worker's own process: `python -m croplake.training.process`.

TensorFlow lives here and not in Spark's Python worker, which Spark forks, reuses for the next job
and may kill at any time. The job comes as a line of JSON on standard input, the answer goes as a
line to standard output. The process ends when its standard input does, so it never outlives the
task; until then it stays, for other workers may still need its last exchange.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from croplake.conf import TrainConf
from croplake.errors import CroplakeError
from croplake.training.shards import ShardPlan

MODEL_FILE: Final = "model.keras"
MODEL_H5_FILE: Final = "model.h5"
LABELS_FILE: Final = "labels.json"
HISTORY_FILE: Final = "history.json"
SETTINGS_FILE: Final = "settings.json"
PROGRESS_FILE: Final = "history.jsonl"
"""One epoch's record a line, while the training runs."""


class SplitFiles(BaseModel):
    """A split's files and the rows of their row groups."""

    files: tuple[str, ...]
    group_rows: tuple[int, ...]


class WorkerJob(BaseModel):
    """What a worker is told."""

    conf: TrainConf
    train: SplitFiles
    validation: SplitFiles | None
    labels: tuple[str, ...]
    output_dir: str
    worker_index: int = 0
    local_rank: int = 0
    """Number of this worker among those on its machine."""
    num_threads: int = 1
    """Cores it computes with."""


def main() -> int:
    """Trains, answers, waits to be released."""
    job = WorkerJob.model_validate_json(sys.stdin.readline())
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # What TensorFlow or Keras print must not mix with the answer.
        done = threading.Event()
        watch = threading.Thread(target=_end_with_standard_input, args=(done,), daemon=True)
        watch.start()
        try:
            answer = train(job)
        except CroplakeError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        except Exception:  # whatever it is, the task has to hear of it
            answer = {"error": traceback.format_exc(), "kind": "defect"}
        done.set()
        answers.write(json.dumps(answer) + "\n")
    watch.join()
    return 0


def _end_with_standard_input(done: threading.Event) -> None:
    while sys.stdin.read(1):
        pass
    os._exit(0 if done.is_set() else 1)


def train(job: WorkerJob) -> dict[str, Any]:
    """Runs one worker's part of a training; TF_CONFIG names the others.

    Returns:
        `history`: one record an epoch; `digest`: SHA-256 of the final weights.
    """
    import tensorflow as tf

    from croplake.training.loop import train_classifier
    from croplake.training.stream import Shard

    tf.config.threading.set_intra_op_parallelism_threads(job.num_threads)
    tf.config.threading.set_inter_op_parallelism_threads(max(2, job.num_threads))
    if gpus := tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices(gpus[job.local_rank % len(gpus)], "GPU")
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    def shard(split: SplitFiles) -> Shard:
        plan = ShardPlan(split.group_rows, job.conf.num_workers)
        return Shard(split.files, plan, job.worker_index, job.conf.reader_threads)

    is_chief = job.worker_index == 0
    output_dir = Path(job.output_dir)
    if is_chief:
        output_dir.mkdir(parents=True, exist_ok=True)
        output_dir.joinpath(PROGRESS_FILE).unlink(missing_ok=True)

    def report(record: dict[str, float]) -> None:
        if is_chief:
            with output_dir.joinpath(PROGRESS_FILE).open("a") as progress:
                progress.write(json.dumps(record) + "\n")

    trained = train_classifier(
        strategy,
        job.conf,
        train=shard(job.train),
        validation=shard(job.validation) if job.validation else None,
        num_classes=len(job.labels),
        on_epoch=report,
    )
    if is_chief:
        _save(job, trained.model, trained.history, output_dir)
    return {"history": trained.history, "digest": digest_weights(trained.model.get_weights())}


def digest_weights(weights: list[Any]) -> str:
    """SHA-256 of a model's weights, NumPy arrays in the model's order."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(f"{weight.shape} {weight.dtype}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _save(
    job: WorkerJob,
    model: Any,  # noqa: ANN401  # keras is imported late and untyped
    history: list[dict[str, float]],
    output_dir: Path,
) -> None:
    texts = {
        LABELS_FILE: list(job.labels),
        HISTORY_FILE: history,
        SETTINGS_FILE: job.conf.model_dump(mode="json"),
    }
    for name, value in texts.items():
        output_dir.joinpath(name).write_text(json.dumps(value, indent=2) + "\n")
    for name in (MODEL_H5_FILE, MODEL_FILE):
        part = output_dir / f".part-{name}"
        model.save(part)
        part.replace(output_dir / name)


if __name__ == "__main__":
    sys.exit(main())
