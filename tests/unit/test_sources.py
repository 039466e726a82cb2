"""Catalog files over HTTP: whole, or refused by name."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from croplake import storage
from croplake.catalog.sources import obtain
from croplake.errors import IncompleteError, InputDataError, SettingsError
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
        self.content = CONTENT
        self.declared_bytes = len(CONTENT)
        self.etag: str | None = None
        self.knows_ranges = True
        self.breaks_after: int | None = None
        self.asked_from: list[int] = []
        """First byte of each request."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.asked_from.append(start)
        if not self.knows_ranges or request.headers.get("If-Range") != self.etag:
            start = 0
        if start >= len(self.content):
            request.send_response(416)
            request.end_headers()
            return
        request.send_response(206 if start else self.status)
        if start:
            last = len(self.content) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
        request.send_header("Content-Length", str(self.declared_bytes - start))
        if self.etag is not None:
            request.send_header("ETag", self.etag)
        request.end_headers()
        end = None if self.breaks_after is None else start + self.breaks_after
        with contextlib.suppress(OSError):  # the client has seen enough
            request.wfile.write(self.content[start:end])


@contextmanager
def running() -> Iterator[Host]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            started.answer(self)

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
    with pytest.raises(IncompleteError, match="the same command goes on"):
        obtain(host.url, str(tmp_path), host.limits)


def test_a_download_that_breaks_off_goes_on_where_it_was(host: Host, tmp_path: Path) -> None:
    host.etag, host.breaks_after = '"one"', 150_000
    host.content = bytes(range(256)) * 1600
    host.declared_bytes = len(host.content)
    landed = Path(obtain(host.url, str(tmp_path), host.limits))
    assert landed.read_bytes() == host.content
    assert host.asked_from == [0, 1 << 17, 2 << 17]
    assert sorted(path.name for path in landed.parent.iterdir()) == [
        "classes.csv",
        "classes.csv.source.json",
    ]


def test_the_next_run_goes_on_where_the_last_was(host: Host, tmp_path: Path) -> None:
    host.etag, host.breaks_after = '"one"', 0
    host.declared_bytes = len(CONTENT)
    folder = tmp_path / "csvs.example" / "v7"
    folder.mkdir(parents=True)
    (folder / "classes.csv.part").write_bytes(CONTENT[:20])
    facts = f'{{"num_bytes": {len(CONTENT)}, "etag": "\\"one\\""}}'
    (folder / "classes.csv.part.source.json").write_text(facts)
    with pytest.raises(IncompleteError, match="broke off 5 times at byte 20"):
        obtain(host.url, str(tmp_path), host.limits)
    assert set(host.asked_from) == {20}
    host.breaks_after = None
    assert Path(obtain(host.url, str(tmp_path), host.limits)).read_bytes() == CONTENT


def test_another_file_at_the_address_is_not_glued_to_the_first_ones_part(
    host: Host, tmp_path: Path
) -> None:
    host.etag, host.breaks_after = '"one"', 0
    folder = tmp_path / "csvs.example" / "v7"
    folder.mkdir(parents=True)
    (folder / "classes.csv.part").write_bytes(b"x" * 20)
    (folder / "classes.csv.part.source.json").write_text('{"num_bytes": 38, "etag": "old"}')
    host.breaks_after = None
    assert Path(obtain(host.url, str(tmp_path), host.limits)).read_bytes() == CONTENT


@pytest.mark.parametrize("etag", [None, '"one"'])
def test_a_host_without_ranges_is_asked_for_all_of_it(
    host: Host, tmp_path: Path, etag: str | None
) -> None:
    host.etag, host.breaks_after, host.knows_ranges = etag, 15, False
    with pytest.raises(IncompleteError, match="broke off 5 times"):
        obtain(host.url, str(tmp_path), host.limits)
    host.breaks_after = None
    assert Path(obtain(host.url, str(tmp_path), host.limits)).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_dropped(host: Host, tmp_path: Path) -> None:
    host.etag = '"one"'
    folder = tmp_path / "csvs.example" / "v7"
    folder.mkdir(parents=True)
    (folder / "classes.csv.part").write_bytes(b"x" * 100)
    (folder / "classes.csv.part.source.json").write_text('{"num_bytes": 38, "etag": "\\"one\\""}')
    assert Path(obtain(host.url, str(tmp_path), host.limits)).read_bytes() == CONTENT


def test_a_newer_file_of_the_same_size_is_told_by_its_tag(host: Host, tmp_path: Path) -> None:
    host.etag = '"one"'
    obtain(host.url, str(tmp_path), host.limits)
    host.content, host.etag = CONTENT.upper(), '"two"'
    assert Path(obtain(host.url, str(tmp_path), host.limits)).read_bytes() == CONTENT.upper()


def test_a_host_that_is_busy_is_incomplete_for_it_may_pass(host: Host, tmp_path: Path) -> None:
    host.status = 503
    with pytest.raises(IncompleteError, match="HTTP 503"):
        obtain(host.url, str(tmp_path), host.limits)


def test_an_hdfs_address_without_hdfs_native_says_what_to_install(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hdfs_native", None)
    monkeypatch.delitem(sys.modules, "hdfs_native.fsspec", raising=False)
    monkeypatch.delitem(sys.modules, "croplake.hdfs", raising=False)
    with pytest.raises(SettingsError, match=r"pip install 'croplake\[hdfs\]' on all machines"):
        obtain("hdfs://no-such-node:8020/boxes.csv", "/nowhere", host.limits)


def test_addresses_that_differ_in_their_query_have_files_of_their_own(
    host: Host, tmp_path: Path
) -> None:
    addresses = [f"{host.url}?f={name}" for name in ("train", "test")]
    found = [obtain(address, str(tmp_path), host.limits) for address in addresses]
    plain = obtain(host.url, str(tmp_path), host.limits)
    assert len({*found, plain}) == 3
    assert all(storage.read_bytes(uri) == CONTENT for uri in (*found, plain))


def test_a_folder_is_no_csv(host: Host, tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="is a folder; expected a file"):
        obtain(str(tmp_path), "/nowhere", host.limits)


def test_a_store_that_does_not_answer_is_incomplete(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str) -> int:
        raise OSError(f"{uri}: connection refused")

    monkeypatch.setattr(storage, "size_bytes", refuse)
    with pytest.raises(IncompleteError, match="connection refused; once the store answers"):
        obtain("s3a://bucket/boxes.csv", "/nowhere", host.limits)
