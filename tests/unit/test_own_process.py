"""A process of its own: its answer, its errors and its last words reach who asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from croplake.errors import IncompleteError, InputDataError
from croplake.own_process import ask

MODULE = """
import os, signal, sys
from croplake.errors import InputDataError
from croplake.own_process import answer_one

def work(job):
    print("noise on standard output")
    print("last words", file=sys.stderr, flush=True)
    match job["do"]:
        case "answer":
            return {"is": job["text"], "quiet": os.environ["TF_CPP_MIN_LOG_LEVEL"]}
        case "refuse":
            raise InputDataError("model.keras: damaged")
        case "defect":
            raise KeyError("oops")
        case "leave":
            os._exit(7)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            signal.pause()

sys.exit(answer_one(work))
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("jobs_of_a_test.py").write_text(MODULE)
    paths = [str(tmp_path), *(path for path in sys.path if path)]
    monkeypatch.setenv("PYTHONPATH", ":".join(paths))


def told(**job: Any) -> dict[str, Any]:  # noqa: ANN401
    return ask("jobs_of_a_test", job)


def test_the_answer_comes_back_whatever_is_printed() -> None:
    text = "ä\n\0" * 100_000  # more than a pipe holds
    assert told(do="answer", text=text) == {"is": text, "quiet": "3"}


def test_what_the_user_can_act_on_stays_what_it_is() -> None:
    with pytest.raises(InputDataError, match=r"^model\.keras: damaged$"):
        told(do="refuse")


def test_a_defect_has_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in work.*KeyError: 'oops'"):
        told(do="defect")


def test_a_death_is_told_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match=r"ended with status 7 and no answer; .*last words"):
        told(do="leave")
    with pytest.raises(IncompleteError, match=r"SIGKILL, as where memory runs out; .*last words"):
        told(do="die")


def test_a_module_that_is_not_there_says_so() -> None:
    with pytest.raises(RuntimeError, match="No module named nothing_like_it"):
        ask("nothing_like_it", {})


def test_it_ends_with_who_asked() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs_of_a_test"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write('{"do": "wait"}\n')
    process.stdin.flush()
    while "last words" not in process.stderr.readline():
        pass
    process.stdin.close()
    assert process.wait(30) == 1
    process.stderr.close()
