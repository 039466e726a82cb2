"""The world's hosts on loopback: Flickr's farms, the mirror and the CSVs behind one port."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final

from PIL import Image

from croplake.miniature.csvs import BOXES_FILES, CLASSES_FILE, HIERARCHY_FILE, PHOTOS_FILES
from croplake.miniature.faults import BUSY_ANSWERS, Fault
from croplake.miniature.world import World

MIRROR_HOST: Final = "open-images-dataset.s3.amazonaws.com"
CSV_HOST: Final = "storage.googleapis.com"
FLICKR_HOSTS: Final = tuple(f"farm{number}.staticflickr.com" for number in range(1, 10))

_CSV_PATHS: Final = {
    f"/openimages/v7/{CLASSES_FILE}": CLASSES_FILE,
    f"/openimages/2018_04/{HIERARCHY_FILE}": HIERARCHY_FILE,
    f"/openimages/v6/{BOXES_FILES['train']}": BOXES_FILES["train"],
    **{f"/openimages/v5/{name}": name for s, name in BOXES_FILES.items() if s != "train"},
    **{f"/openimages/2018_04/{s}/{name}": name for s, name in PHOTOS_FILES.items()},
}
_TYPES: Final = {".jpg": "image/jpeg", ".png": "image/png", ".csv": "text/csv"}
_UNAVAILABLE: Final = "/photo_unavailable_l.png"


@dataclass(frozen=True)
class Request:
    """An answered request."""

    method: str
    host: str
    path: str
    status: int
    num_bytes: int


@dataclass(frozen=True)
class _File:
    """What an address leads to; `image_id` is None for what is no photo."""

    path: Path
    image_id: str | None = None
    is_mirror: bool = False


class MiniatureServer:
    """A running server.

    Attributes:
        address: `127.0.0.1:PORT`.
        connect_to: every host name of the world to that address.
    """

    def __init__(self, world: World, address: str) -> None:
        self.address = address
        self.connect_to = dict.fromkeys((MIRROR_HOST, CSV_HOST, *FLICKR_HOSTS), address)
        self._files = _routes(world)
        self._memory = world.root / "asked.json"
        self._faults = world.faults()
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()
        self._requests: list[Request] = []

    @property
    def requests(self) -> list[Request]:
        """All requests so far."""
        with self._lock:
            return list(self._requests)

    def clear_requests(self) -> None:
        """Forgets the requests so far; busy photos stay as often asked for as they were."""
        with self._lock:
            self._requests.clear()

    def recall(self) -> None:
        """Goes on counting requests for busy photos where the last server has stopped."""
        if self._memory.exists():
            self._asked.update(json.loads(self._memory.read_text()))

    def remember(self) -> None:
        """Leaves the count to the next server."""
        with self._lock:
            self._memory.write_text(json.dumps(self._asked))

    def answer(self, method: str, host: str, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for an address; notes the request."""
        status, headers, body = self._answer(host, path)
        with self._lock:
            self._requests.append(Request(method, host, path, status, len(body)))
        return status, headers, body

    def _answer(self, host: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if path == _UNAVAILABLE:
            return 200, {"Content-Type": "image/png"}, _placeholder()
        file = self._files.get((_family(host), path))
        if file is None:
            return 404, {"Content-Type": "text/plain"}, b"no such address\n"
        fault = self._faults.get(file.image_id or "")
        if fault is not None:
            return self._misbehave(fault, file, host, path)
        return 200, {"Content-Type": _type_of(path)}, file.path.read_bytes()

    def _misbehave(
        self, fault: Fault, file: _File, host: str, path: str
    ) -> tuple[int, dict[str, str], bytes]:
        jpeg = {"Content-Type": _type_of(path)}
        match fault:
            case "gone" if file.is_mirror:
                return 404, {"Content-Type": "application/xml"}, b"<Error>NoSuchKey</Error>"
            case "gone" if int(file.image_id or "0", 16) % 2:
                return 302, {"Location": f"http://{host}{_UNAVAILABLE}"}, b""
            case "gone":
                return 410, {"Content-Type": "text/plain"}, b"gone\n"
            case "mirror_gone" if file.is_mirror:
                return 404, {"Content-Type": "application/xml"}, b"<Error>NoSuchKey</Error>"
            case "truncated":
                whole = file.path.read_bytes()
                return 200, jpeg, whole[: len(whole) // 2]
            case "empty":
                return 200, jpeg, b""
            case "html":
                return 200, jpeg, b"<html><body>Please sign in</body></html>"
            case "busy":
                with self._lock:
                    self._asked[host + path] += 1
                    if self._asked[host + path] <= BUSY_ANSWERS:
                        return 503, {"Content-Type": "text/plain"}, b"busy\n"
        return 200, jpeg, file.path.read_bytes()


def _family(host: str) -> str:
    """The photos of all of Flickr's farms share one name space here."""
    return "flickr" if host in FLICKR_HOSTS else host


def _type_of(path: str) -> str:
    return _TYPES.get(Path(path).suffix, "application/octet-stream")


@functools.cache
def _placeholder() -> bytes:
    """What Flickr shows for a photo that is gone: a sound picture, told by its address alone."""
    buffer = io.BytesIO()
    Image.new("RGB", (500, 374), (243, 245, 246)).save(buffer, "PNG")
    return buffer.getvalue()


def _routes(world: World) -> dict[tuple[str, str], _File]:
    routes = {(CSV_HOST, path): _File(world.csv_dir / name) for path, name in _CSV_PATHS.items()}
    for photo in world.photos():
        image_id, subset = photo["image_id"], photo["subset"]
        key = f"{subset}/{image_id}.jpg"
        routes[MIRROR_HOST, f"/{key}"] = _File(world.root / "mirror" / key, image_id, True)
        original = _File(world.root / "originals" / image_id, image_id)
        routes["flickr", photo["original_path"]] = original
        if photo["thumbnail_path"]:
            thumbnail = world.root / "thumbnails" / f"{image_id}.jpg"
            routes["flickr", photo["thumbnail_path"]] = _File(thumbnail, image_id)
    return routes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        host = (self.headers.get("Host") or "").split(":")[0]
        status, headers, body = self.server.world.answer(self.command, host, self.path)
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        sent = b"" if self.command == "HEAD" else body
        # One write: a header that waits for its body costs a round trip.
        self.wfile.write("\r\n".join(lines).encode("latin-1") + sent)

    do_HEAD = do_GET  # noqa: N815  # the name http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # its signature
        pass


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    world: MiniatureServer

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._open: set[socket.socket] = set()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]  # TCP only
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]  # TCP only
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is its own business."""

    def hang_up(self) -> None:
        """Ends connections that clients keep alive."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serve_world(world: World, *, remembers: bool = False) -> Iterator[MiniatureServer]:
    """Serves a world on a port that the system chooses, until the context ends.

    Args:
        world: finished.
        remembers: busy photos stay as often asked for as they were when it was served last.

    Yields:
        The server.
    """
    with _Listener() as listener:
        host, port = listener.server_address[:2]
        listener.world = MiniatureServer(world, f"{host!s}:{port}")
        if remembers:
            listener.world.recall()
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield listener.world
        finally:
            listener.shutdown()
            thread.join()
            listener.hang_up()
            if remembers:
                listener.world.remember()
