"""Catalog files over HTTP: whole, or refused by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from croplake.catalog.sources import obtain
from croplake.errors import IncompleteError, InputDataError
from croplake.fetching.http import HttpLimits

CONTENT = b"LabelName,DisplayName\n/m/0apple,Apple\n"


class Host:
    """Serves one file, however it is told to."""

    def __init__(self, address: str) -> None:
        self.url = "http://csvs.example/v7/classes.csv"
        self.limits = HttpLimits(
            connect_timeout_s=5,
            photo_timeout_s=5,
            read_timeout_s=5,
            max_bytes=1 << 40,
            connect_to={"csvs.example": address},
        )
        self.status = 200
        self.declared_bytes = len(CONTENT)


@contextmanager
def running() -> Iterator[Host]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(started.status)
            self.send_header("Content-Length", str(started.declared_bytes))
            self.end_headers()
            try:
                self.wfile.write(CONTENT)
            except OSError:
                """The client has seen enough."""

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        started = Host(f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield started
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def host() -> Iterator[Host]:
    with running() as found:
        yield found


def test_a_download_lands_whole_below_its_address(host: Host, tmp_path: Path) -> None:
    landed = obtain(host.url, str(tmp_path), host.limits)
    assert landed == f"{tmp_path}/csvs.example/v7/classes.csv"
    assert Path(landed).read_bytes() == CONTENT


def test_a_download_of_the_same_size_is_used_again(host: Host, tmp_path: Path) -> None:
    landed = obtain(host.url, str(tmp_path), host.limits)
    Path(landed).write_bytes(CONTENT.lower())
    assert obtain(host.url, str(tmp_path), host.limits) == landed
    assert Path(landed).read_bytes() == CONTENT.lower()


def test_a_truncated_download_is_refused_by_name_and_leaves_nothing(
    host: Host, tmp_path: Path
) -> None:
    host.declared_bytes = 2 * len(CONTENT)
    with pytest.raises(IncompleteError, match=r"http://csvs\.example/v7/classes\.csv: "):
        obtain(host.url, str(tmp_path), host.limits)
    assert not (tmp_path / "csvs.example/v7/classes.csv").exists()
    host.declared_bytes = len(CONTENT)
    assert Path(obtain(host.url, str(tmp_path), host.limits)).read_bytes() == CONTENT


def test_a_host_that_has_no_such_file_is_named_with_its_answer(host: Host, tmp_path: Path) -> None:
    host.status = 404
    with pytest.raises(InputDataError, match=r"classes\.csv: HTTP 404, expected the file"):
        obtain(host.url, str(tmp_path), host.limits)


def test_a_host_that_is_gone_is_incomplete_for_it_may_come_back(tmp_path: Path) -> None:
    with running() as host:
        pass
    with pytest.raises(IncompleteError, match="the same command tries again"):
        obtain(host.url, str(tmp_path), host.limits)
