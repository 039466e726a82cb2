"""A forward proxy on loopback: absolute addresses and CONNECT, to hosts of our own alone."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping

from tests.faults.server import FaultServer, Script, Visit


class ForwardProxy:
    """Looks names up in a table of its own, and notes what it was asked for.

    It is a host of a `FaultServer` itself: `server.address` is the proxy's.

    Attributes:
        asked: methods and targets, in their order.
        authorizations: `Proxy-Authorization` of each, empty where there was none.
    """

    def __init__(self, places: Mapping[str, str], *, refuses_with: int | None = None) -> None:
        self._places, self._refuses_with = places, refuses_with
        self.asked: list[tuple[str, str]] = []
        self.authorizations: list[str] = []

    def __call__(self, visit: Visit) -> None:
        """Serves one request."""
        self.asked.append((visit.method, visit.target))
        self.authorizations.append(visit.headers.get("proxy-authorization", ""))
        place = self._places.get(visit.host)
        if self._refuses_with is not None or place is None:
            visit.answer(self._refuses_with or 502, b"the proxy will not")
            return
        address, port = place.rsplit(":", 1)
        with socket.create_connection((address, int(port)), timeout=20) as there:
            if visit.method == "CONNECT":
                visit.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = "/" + visit.target.split("/", 3)[3]
                there.sendall(f"GET {path} HTTP/1.1\r\nHost: {visit.host}\r\n".encode())
                there.sendall(b"Connection: close\r\n\r\n")
            _join(visit.connection, there)

    def listening(self) -> FaultServer:
        """The proxy as a server that takes any host for its own."""
        return FaultServer(_Everything(self))


class _Everything(dict[str, Script]):
    """Every host has the same script."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    def get(self, host: str, default: object = None) -> Script:
        return self._script


def _join(here: socket.socket, there: socket.socket) -> None:
    """Carries bytes both ways until either side has ended."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=carry, args=(there, here))
    back.start()
    carry(here, there)
    back.join()
