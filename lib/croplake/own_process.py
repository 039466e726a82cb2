"""A process of its own for what the driver never imports: TensorFlow.

The job goes to `python -m MODULE` as a line of JSON on standard input, the answer comes as a line
on standard output. The process ends when its standard input does, so it never outlives who asked.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any, Final

from croplake import errors
from croplake.errors import CroplakeError, IncompleteError

QUIET: Final = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONWARNINGS": "ignore",
    "PYTHONUNBUFFERED": "1",
}
"""The environment in which TensorFlow keeps to itself."""
_TAIL_CHARS: Final = 4000


def ask(
    module: str, job: Mapping[str, Any], *, environment: Mapping[str, str] = QUIET
) -> dict[str, Any]:
    """Has a module do one job in a process of its own.

    Args:
        module: whose `main` calls `answer_one`.
        job: what JSON can hold.
        environment: added to this process's own.

    Returns:
        The answer.

    Raises:
        CroplakeError: the very error that the process met.
        IncompleteError: it was killed; the text has its last words.
        RuntimeError: it failed for any other reason, which is a defect.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603  # this Python, a module of croplake's
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | environment,
            text=True,
        )
        try:
            line = _converse(process, json.dumps(job))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if not line:
            raise _death(module, process.returncode, _tail(log))
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        kind = getattr(errors, answer["kind"], None)
        raise RuntimeError(answer["error"]) if kind is None else kind(answer["error"])
    return answer


def _converse(process: subprocess.Popen[str], job: str) -> str:
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process was started without pipes")
    with process.stdout:
        with suppress(BrokenPipeError):  # it is dead already; its last words say why
            process.stdin.write(job + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.wait()
    return line


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")[-_TAIL_CHARS:].strip()


def _death(module: str, status: int, words: str) -> Exception:
    said = f"; its last words: {words}" if words else ""
    if status >= 0:
        return RuntimeError(f"{module} ended with status {status} and no answer{said}")
    name = signal.Signals(-status).name
    out_of_memory = ", as where memory runs out" if name == "SIGKILL" else ""
    return IncompleteError(f"{module} was ended by {name}{out_of_memory}{said}; run it again")


def answer_one(work: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """The other side of `ask`: reads a job, does it, answers.

    Args:
        work: the job to its answer; a `CroplakeError` of it reaches who asked as it is.

    Returns:
        The exit code.
    """
    job = json.loads(sys.stdin.readline())
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # What libraries print must not mix with the answer.
        done = threading.Event()
        watch = threading.Thread(target=_end_with_standard_input, args=(done,), daemon=True)
        watch.start()
        try:
            answer = work(job)
        except CroplakeError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        except Exception:  # whatever it is, who asked has to hear of it
            answer = {"error": traceback.format_exc(), "kind": "defect"}
        done.set()
        answers.write(json.dumps(answer) + "\n")
    watch.join()
    return 0


def _end_with_standard_input(done: threading.Event) -> None:
    while sys.stdin.read(1):
        pass
    os._exit(0 if done.is_set() else 1)
