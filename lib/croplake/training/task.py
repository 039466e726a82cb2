"""What a Spark task does in a distributed training: start its worker's process and mind it."""

from __future__ import annotations

import json
from typing import Any, Final

from pyspark import BarrierTaskContext

from croplake.training.process import WorkerJob
from croplake.training.worker_process import (
    WorkerFailureError,
    WorkerProcess,
    job_of_worker,
    reserve_port,
)

ERROR_MARK: Final = "croplake worker failed: "
"""Comes before the failure as JSON in the text of a failed Spark job."""
GPU: Final = "gpu"
"""What Spark calls the resource."""


def run_worker(job_text: str) -> dict[str, Any]:
    """Runs this task's worker to its end, in step with the other tasks of the barrier stage.

    Args:
        job_text: the `WorkerJob` of all workers as JSON.

    Returns:
        The answer of `process.train`.

    Raises:
        RuntimeError: the worker failed; the text holds `ERROR_MARK` and the failure as JSON. Spark
            then ends the other tasks, and their workers end with them.
    """
    context = BarrierTaskContext.get()
    rank = context.partitionId()
    host = context.getTaskInfos()[rank].address.rsplit(":", 1)[0]
    with reserve_port() as reserved:
        addresses = context.allGather(f"{host}:{reserved.getsockname()[1]}")
    hosts = [address.rsplit(":", 1)[0] for address in addresses]
    job = job_of_worker(WorkerJob.model_validate_json(job_text), rank, hosts)
    environment = {}
    if job.conf.gpus_per_worker:
        given = context.resources()[GPU].addresses
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(given)
    with WorkerProcess(job, addresses, environment) as process:
        try:
            answer = process.answer()
        except WorkerFailureError as failure:
            text = json.dumps({"error": str(failure), "kind": failure.kind})
            raise RuntimeError(ERROR_MARK + text) from failure
        # Nobody leaves before all have answered: a slower one may still need an exchange.
        context.barrier()
    return answer
