"""A worker's process ends with whoever started it, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

TASK = """
import sys
from croplake.conf import TrainConf
from croplake.training.process import SplitFiles, WorkerJob
from croplake.training.shards import plan_shards
from croplake.training.worker_process import WorkerProcess

job = WorkerJob(
    conf=TrainConf(num_workers=2, weights="none", phases=[{"trainable": "all", "epochs": 1}]),
    train=SplitFiles(files=(), plan=plan_shards([], 2)),
    validation=None,
    labels=("red", "green"),
    label_counts=(1, 1),
    output_dir="model",
    checkpoint_dir="checkpoints",
)
# The other worker never comes: this one waits for it.
process = WorkerProcess(job, ["127.0.0.1:1", "127.0.0.1:2"], {})
print(process._process.pid, flush=True)
sys.stdin.read()
"""
PATIENCE_MS = 60_000


def test_the_process_of_a_killed_task_ends_and_removes_its_scratch_folder(tmp_path: Path) -> None:
    task = subprocess.Popen(
        [sys.executable, "-c", TASK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    with task:
        assert task.stdout is not None
        worker = os.pidfd_open(int(task.stdout.readline()))
        (scratch,) = tmp_path.glob("croplake-worker-*")
        (scratch / "shuffled").mkdir()
        task.kill()
    end = select.poll()
    end.register(worker, select.POLLIN)
    assert end.poll(PATIENCE_MS), "it outlived its task"
    os.close(worker)
    assert not scratch.exists()
