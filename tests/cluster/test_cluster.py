"""The demo's way on executors that are processes of their own, against the same in one process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyspark
import pytest

from croplake import open_lake
from croplake import tables as t
from croplake.conf import Settings
from croplake.jobs.entry import JOB_SUMMARIES
from croplake.miniature import World, build_world, serve_world
from tests.jobs.world import miniature_settings, outside_environment

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]

JOB_NAMES = [summary.replace("-", "_") for summary in JOB_SUMMARIES]
_ON_LOOPBACK = ("-h", "127.0.0.1", "--webui-port", "0")
TRAIN = {
    "weights": "none",
    "alpha": 0.35,
    "input_side_px": 32,
    "dense_units": 32,
    "phases": [{"trainable": "all", "epochs": 2}],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("miniature") / "world", num_photos=200, seed=11)


def run_outside(command: list[str]) -> str:
    """Runs a command without this process's Spark, and returns what it printed."""
    answer = subprocess.run(command, env=outside_environment(), capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def write_conf(settings: Settings, folder: Path) -> str:
    file = folder / "settings.yaml"
    file.write_text(settings.model_dump_json())
    return str(file)


def run_way(world: World, folder: Path, master: str, num_workers: int) -> tuple[Settings, str]:
    folder.mkdir()
    with serve_world(world) as server:
        settings = miniature_settings(
            world,
            server,
            folder,
            spark={"master": master},
            train=TRAIN | {"num_workers": num_workers},
            classify={"photos": [str(world.new_photos_dir)]},
        )
        printed = run_outside(["croplake", "run", "--conf", write_conf(settings, folder)])
    return settings, printed


def pictures(settings: Settings) -> dict[str, tuple[str, bytes | None]]:
    rows = open_lake(settings.lake.root).dataset("crops").to_table().to_pylist()
    return {row[t.BOX_ID]: (row[t.STATUS], row[t.JPEG]) for row in rows}


def digests(printed: str) -> list[str]:
    (line,) = re.findall(r"weights, SHA-256\s*│\s*([0-9a-f, ]+)", printed)
    return [digest.strip() for digest in line.split(",")]


def test_two_executors_and_two_workers_give_the_same_crops_and_equal_weights(
    world: World, tmp_path: Path
) -> None:
    alone, _ = run_way(world, tmp_path / "alone", "local[2]", 1)
    spread, printed = run_way(world, tmp_path / "spread", "local-cluster[2,1,2048]", 2)
    assert pictures(alone) == pictures(spread)
    assert re.search(r"workers\s*│\s*2", printed)
    assert len(digests(printed)) == 1
    for settings in (alone, spread):
        runs = open_lake(settings.lake.root).dataset("runs").to_table().to_pylist()
        assert {run[t.OUTCOME] for run in runs} == {"done"}
        assert len(runs) == 7


def gpu_option(folder: Path) -> str:
    """What makes a worker of Spark's believe in a GPU."""
    script = folder / "find_gpus.sh"
    script.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["5"]}'\n""")
    script.chmod(0o755)
    of_worker = "-Dspark.worker.resource.gpu"
    return f"{of_worker}.amount=1 {of_worker}.discoveryScript={script}"


@contextmanager
def standalone_cluster(folder: Path) -> Iterator[str]:
    """A master and two workers of one core and a GPU each, on ports that the system chooses."""
    launcher = Path(pyspark.__file__).parent / "bin" / "spark-class"
    package = "org.apache.spark.deploy"
    environment = os.environ | {
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOG_DIR": str(folder),
        "SPARK_WORKER_DIR": str(folder / "work"),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_WORKER_OPTS": gpu_option(folder),
    }
    processes: list[subprocess.Popen[Any]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(launcher), *arguments],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        processes.append(process)
        return process

    def wait_for(process: subprocess.Popen[str], pattern: str) -> str:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(pattern, line):
                return found[0]
        raise AssertionError(f"the process ended without {pattern}")

    try:
        master = start(
            f"{package}.master.Master", "-h", "127.0.0.1", "-p", "0", "--webui-port", "0"
        )
        address = wait_for(master, r"spark://127\.0\.0\.1:[1-9]\d*")
        command = (f"{package}.worker.Worker", *_ON_LOOPBACK, "-c", "1", "-m", "2g", address)
        workers = [start(*command) for _ in range(2)]
        for worker in workers:
            wait_for(worker, "Successfully registered with master")
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait()


def test_every_job_runs_by_spark_submit_on_a_standalone_cluster(
    world: World, tmp_path: Path
) -> None:
    with standalone_cluster(tmp_path) as master, serve_world(world) as server:
        settings = miniature_settings(
            world,
            server,
            tmp_path,
            train=TRAIN | {"num_workers": 2},
            classify={"photos": [str(world.new_photos_dir)]},
        )
        conf = write_conf(settings, tmp_path)
        properties = ["--conf", "spark.executor.memory=1g", "--conf", "spark.executor.cores=1"]
        submit = ["spark-submit", "--master", master, *properties]
        for job in JOB_NAMES:
            printed = run_outside([*submit, f"jobs/{job}.py", "--conf", conf])
            assert f"\n{job}" in f"\n{printed}", printed
        # Each worker is given the GPU that Spark has for it; that there is none is TensorFlow's
        # to find out.
        gpus = ["--conf", "spark.executor.resource.gpu.amount=1"]
        ask = ["--set", "train.gpus_per_worker=1"]
        command = [*submit, *gpus, "jobs/train_classifier.py", "--conf", conf, *ask]
        answer = subprocess.run(
            command, env=outside_environment(), capture_output=True, text=True, check=False
        )
        assert answer.returncode == 2, answer.stdout + answer.stderr
        # spark-submit puts what its Python says into its own standard output.
        assert re.search(
            r"worker [01] was given the GPU 5, but TensorFlow finds none", answer.stdout
        )
    runs = open_lake(settings.lake.root).dataset("runs").to_table().to_pylist()
    assert sorted(run[t.JOB] for run in runs) == sorted([*JOB_NAMES, "train_classifier"])
    model = next(
        run[t.MODEL_ID] for run in runs if run[t.COUNTS] and run[t.JOB] == "train_classifier"
    )
    folder = Path(settings.lake.root) / "models" / model
    assert json.loads((folder / "labels.json").read_text()) == sorted(settings.dataset.classes)
