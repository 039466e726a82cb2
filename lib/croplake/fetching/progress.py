"""Live counts from the executors to the driver, over one small socket per task.

Spark's accumulators speak only when a task ends, which with slow hosts is many minutes. These
counts are for the eyes alone: what landed is read from the table.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

_EVERY_S: Final = 0.5


class ProgressSender:
    """A task's end: adds up photos and sends the sum at most twice a second.

    A driver that cannot be reached costs the display, never the task.
    """

    def __init__(self, address: tuple[str, int] | None) -> None:
        self._socket: socket.socket | None = None
        self._photos = 0
        self._statuses: Counter[str] = Counter()
        self._sent_at = time.monotonic()
        if address is not None:
            with contextlib.suppress(OSError):
                self._socket = socket.create_connection(address, timeout=2)

    def add(self, statuses: Counter[str]) -> None:
        """Counts one finished photo, whose boxes ended in these statuses."""
        self._photos += 1
        self._statuses += statuses
        if time.monotonic() - self._sent_at >= _EVERY_S:
            self._send()

    def close(self) -> None:
        """Sends what is left."""
        self._send()
        if self._socket is not None:
            self._socket.close()

    def _send(self) -> None:
        self._sent_at = time.monotonic()
        if self._socket is None or not self._photos:
            return
        line = json.dumps({"photos": self._photos, "statuses": self._statuses}) + "\n"
        try:
            self._socket.sendall(line.encode())
        except OSError:
            self._socket.close()
            self._socket = None
        self._photos, self._statuses = 0, Counter()


OnProgress = Callable[[int, Counter[str]], None]


@contextlib.contextmanager
def progress_listener(host: str, on_progress: OnProgress) -> Iterator[tuple[str, int]]:
    """The driver's end: receives the tasks' counts while it is open.

    Args:
        host: address of the driver that executors can reach (`spark.driver.host`).
        on_progress: called from the listener's threads, one at a time, with further photos done and
            their boxes' statuses.

    Yields:
        Host and port for `ProgressSender`.
    """
    lock = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                for line in self.rfile:
                    counts = json.loads(line)
                    with lock:
                        on_progress(int(counts["photos"]), Counter(counts["statuses"]))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield host, server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
