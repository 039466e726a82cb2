"""`make` on a machine that lacks something says so in one line, before anything is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

JAVA_17 = 'openjdk version "17.0.9" 2023-10-17'


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH with nothing on it but what the script itself is made of."""
    for tool in ("sh", "sed", "head"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def add_python(folder: Path, name: str, version: str, *, has_venv: bool = True) -> None:
    answer = f"case $2 in *version_info*) echo {version};; *venv*) exit {int(not has_venv)};; esac"
    write_script(folder / name, answer)


def add_java(folder: Path, first_line: str) -> None:
    write_script(folder / "java", f"echo '{first_line}' >&2")


def write_script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def preflight(folder: Path, **environment: str) -> tuple[int, str, str]:
    answer = subprocess.run(
        ["/bin/sh", "deploy/preflight.sh"],
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode, answer.stdout, answer.stderr


def test_a_machine_that_has_all_gets_the_python_to_use(bare: Path) -> None:
    add_python(bare, "python3", "3.11")
    add_java(bare, JAVA_17)
    assert preflight(bare) == (0, "python3\n", "")


@pytest.mark.parametrize("line", [JAVA_17, 'java version "21.0.1" 2023-10-17 LTS'])
def test_java_17_and_21_will_do(bare: Path, line: str) -> None:
    add_python(bare, "python3.11", "3.11")
    add_java(bare, line)
    assert preflight(bare)[0] == 0


def test_no_java_is_one_line_with_the_way_out(bare: Path) -> None:
    add_python(bare, "python3.11", "3.11")
    code, out, said = preflight(bare)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert said.startswith("croplake: no working java; Java 17 or 21 is needed: install")


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.21", "25"])
def test_another_java_is_named(bare: Path, version: str) -> None:
    add_python(bare, "python3.11", "3.11")
    add_java(bare, f'openjdk version "{version}"')
    code, out, said = preflight(bare)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert f"java is Java {version}; Java 17 or 21 is needed" in said


def test_a_java_home_without_java_is_named(bare: Path) -> None:
    add_python(bare, "python3.11", "3.11")
    add_java(bare, JAVA_17)
    code, _, said = preflight(bare, JAVA_HOME="/nowhere")
    assert code == 2
    assert "no working /nowhere/bin/java" in said


def test_another_python_is_named_with_what_is_needed(bare: Path) -> None:
    add_python(bare, "python3", "3.13")
    add_java(bare, JAVA_17)
    code, out, said = preflight(bare)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "python3 is Python 3.13; Python 3.11 is needed: install it" in said


def test_no_python_at_all_is_said_so(bare: Path) -> None:
    add_java(bare, JAVA_17)
    assert "no python3.11 on the PATH; Python 3.11 is needed" in preflight(bare)[2]


def test_a_python_of_ones_own_choice_comes_first(bare: Path) -> None:
    add_python(bare, "mine", "3.11")
    add_python(bare, "python3.11", "3.11")
    add_java(bare, JAVA_17)
    assert preflight(bare, PYTHON=str(bare / "mine"))[1] == f"{bare}/mine\n"


def test_a_python_without_venv_is_said_so(bare: Path) -> None:
    add_python(bare, "python3.11", "3.11", has_venv=False)
    add_java(bare, JAVA_17)
    assert "python3.11 has no venv module; install it" in preflight(bare)[2]
