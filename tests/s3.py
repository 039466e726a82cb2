"""A real S3 server on loopback: versitygw over a folder, built by Go once into `build/s3`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

VERSION = "v1.8.0"
_FOLDER = Path("build/s3")
_TRIES = 3
ACCESS = {"AWS_ACCESS_KEY_ID": "croplake", "AWS_SECRET_ACCESS_KEY": "croplake-on-loopback"}
"""The server's only account; it lives as long as a test."""


def build_server() -> Path:
    """The server's binary; the first call takes about a minute."""
    binary = _FOLDER.absolute() / VERSION / "versitygw"
    if not binary.exists():
        go = shutil.which("go")
        assert go is not None, "the S3 tests build their server and need Go (golang.org)"
        module = f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"
        environment = os.environ | {"GOBIN": str(binary.parent), "GOFLAGS": "-modcacherw"}
        subprocess.run([go, "install", module], env=environment, check=True)
    return binary


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Serves the folders below `folder` as buckets until the block ends.

    Yields:
        The environment that leads a client to it.
    """
    binary = build_server()
    process, endpoint = _start(binary, folder)
    try:
        yield ACCESS | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
    finally:
        process.terminate()
        process.wait()


def _start(binary: Path, folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Another program may take a free port before the server does; then another is tried."""
    keys = {
        "ROOT_ACCESS_KEY": ACCESS["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": ACCESS["AWS_SECRET_ACCESS_KEY"],
    }
    for _ in range(_TRIES):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{held.getsockname()[1]}"
        process = subprocess.Popen(
            [str(binary), "--port", place, "posix", str(folder)],
            env=os.environ | keys,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if place in line:
                # It tells of every request, and would stop at a pipe that nobody empties.
                Thread(target=deque, args=(process.stdout, 0), daemon=True).start()
                return process, f"http://{place}"
        process.wait()
    raise AssertionError(f"versitygw does not start: {''.join(said)}")
