"""Hosts on loopback that do as they are scripted: raw sockets, so that any fault can be had.

A host name has its script, a function that is given each request (`Visit`) and writes what it
likes. The server notes what was asked, when, and over which connections.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_MAX_HEAD_BYTES: Final = 64 * 1024

Script = Callable[["Visit"], None]


@dataclass
class HostLog:
    """What a host has seen.

    Attributes:
        paths: of the requests, in their order.
        headers: of the requests, names in lower case.
        connections: over which they came.
        started_at: monotonic time of each request.
    """

    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    started_at: list[float] = field(default_factory=list)


class Visit:
    """One request, and the means to answer it.

    Attributes:
        connection: it came over.
        method: of the request.
        target: as it was asked for, the path as a rule.
        host: name asked for, without its port.
        headers: names in lower case.
        number: how many requests this host has had, with this one.
        is_over: after the script the connection is closed; `answer` keeps it open.
    """

    def __init__(self, connection: socket.socket, head: bytes, closing: threading.Event) -> None:
        self.connection, self._closing = connection, closing
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        pairs = (line.split(":", 1) for line in lines if ":" in line)
        self.headers = {name.strip().lower(): value.strip() for name, value in pairs}
        self.host = self.headers.get("host", "").rsplit(":", 1)[0].lower()
        self.number = 0
        self.is_over = True

    def send(self, data: bytes) -> None:
        """Writes bytes as they are."""
        self.connection.sendall(data)

    def answer(
        self, status: int, body: bytes = b"", length: int | None = None, /, **headers: str
    ) -> None:
        """Writes a whole answer.

        Args:
            status: of HTTP.
            body: its bytes.
            length: what `Content-Length` says; the body's, if None.
            headers: further ones, `_` standing for `-`.
        """
        self.send(
            head(status, content_length=str(len(body) if length is None else length), **headers)
        )
        self.send(body)
        self.is_over = length not in (None, len(body))

    def drip(self, data: bytes, *, every_s: float = 0.2) -> None:
        """Writes a byte now and then, until the other side or the server has enough."""
        for start in range(len(data)):
            self.send(data[start : start + 1])
            if self.waits(every_s):
                return

    def waits(self, seconds: float | None = None) -> bool:
        """Holds the request for a while, or for ever; True where the server closes meanwhile."""
        return self._closing.wait(seconds)

    def wait_until_left(self) -> None:
        """Says nothing until the other side hangs up."""
        with contextlib.suppress(OSError):
            self.connection.recv(1)

    def reset(self) -> None:
        """Breaks the connection off the hard way: RST, not FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.is_over = True


def head(status: int, **headers: str) -> bytes:
    """The head of an answer; `_` in names stands for `-`."""
    lines = [
        f"HTTP/1.1 {status} Said",
        *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class FaultServer:
    """Scripted hosts behind ports of their own choosing; a context manager.

    Attributes:
        address: `127.0.0.1:port`, plain.
        log: what each host has seen.
    """

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._numbers = iter(range(1 << 62))
        self.log: dict[str, HostLog] = {}
        self.address = self.listen()

    def __enter__(self) -> FaultServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with self._lock:
            sockets, threads = list(self._sockets), list(self._threads)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in threads:
            thread.join()

    def listen(self, context: ssl.SSLContext | None = None, *, at: str = "127.0.0.1") -> str:
        """Opens another port to the same hosts, over TLS where a context is given."""
        family = socket.AF_INET6 if ":" in at else socket.AF_INET
        listener = socket.create_server((at, 0), family=family, backlog=256)
        self._begin(listener, self._accept, listener, context)
        port = listener.getsockname()[1]
        return f"[{at}]:{port}" if ":" in at else f"{at}:{port}"

    def num_requests(self, host: str) -> int:
        """How often a host was asked."""
        with self._lock:
            return len(self.log[host].paths) if host in self.log else 0

    def _begin(self, owned: socket.socket, work: Callable[..., None], *given: object) -> None:
        with self._lock:
            self._sockets.add(owned)
            thread = threading.Thread(target=work, args=given, daemon=True)
            self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._begin(connection, self._serve, connection, context)

    def _serve(self, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        number = next(self._numbers)
        plain = connection
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            while (found := _read_head(connection)) is not None:
                visit = Visit(connection, found, self._closing)
                self._note(visit, number)
                self._scripts.get(visit.host, _unknown)(visit)
                if visit.is_over:
                    return
        except (OSError, ValueError):
            """The other side has gone, speaks no TLS, or speaks no HTTP."""
        finally:
            connection.close()
            with self._lock:
                self._sockets.discard(plain)

    def _note(self, visit: Visit, connection: int) -> None:
        with self._lock:
            log = self.log.setdefault(visit.host, HostLog())
            log.paths.append(visit.target)
            log.headers.append(visit.headers)
            log.connections.add(connection)
            log.started_at.append(time.monotonic())
            visit.number = len(log.paths)


def _read_head(connection: socket.socket) -> bytes | None:
    """The next request's head without its empty line; None where the other side has left."""
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte or len(found) > _MAX_HEAD_BYTES or not (found + byte)[:1].isalpha():
            return None
        found += byte
    return found[:-4]


def _unknown(visit: Visit) -> None:
    visit.answer(404, f"no host {visit.host} here".encode())


@contextlib.contextmanager
def refusing_address() -> Iterator[str]:
    """An address where nobody listens: the port is taken, so that nobody else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def mute_address() -> Iterator[str]:
    """An address that takes connections, in the kernel, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address that answers no SYN: its queue is full and nobody takes anything out of it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        count = Counter[bool]()
        # The kernel takes one more than the backlog says; the next must be left waiting.
        while not count[False]:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(listener.getsockname())
                count[True] += 1
            except TimeoutError:
                count[False] += 1
        yield f"127.0.0.1:{listener.getsockname()[1]}"
