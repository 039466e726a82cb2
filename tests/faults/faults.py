"""What hosts do to their visitors: one small script a fault, for `server.FaultServer`."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from email.utils import formatdate
from time import time

from tests.faults import pictures
from tests.faults.server import Script, Visit, head

MAX_BYTES = 4 * 1024 * 1024
"""The limit of a photo in these tests."""


def serves(
    body: bytes | Callable[[], bytes], kind: str = "image/jpeg", status: int = 200
) -> Script:
    """Answers every request with the same."""

    def script(visit: Visit) -> None:
        data = body if isinstance(body, bytes) else body()
        visit.answer(status, data, content_type=kind)

    return script


def in_turn(*scripts: Script) -> Script:
    """The first request has the first script, and so on; the last stays."""

    def script(visit: Visit) -> None:
        scripts[min(visit.number, len(scripts)) - 1](visit)

    return script


def refuses(status: int, **headers: str) -> Script:
    """An error page, with headers."""

    def script(visit: Visit) -> None:
        visit.answer(status, b"<html>no</html>", None, **headers)

    return script


def busy(status: int, retry_after: str | None) -> Script:
    """429 or 503."""
    return refuses(status) if retry_after is None else refuses(status, retry_after=retry_after)


def busy_until_a_date(visit: Visit) -> None:
    """Retry-After as the date of an hour from now."""
    visit.answer(429, retry_after=formatdate(time() + 3600, usegmt=True))


def redirects(target: str, status: int = 302) -> Script:
    """Sends to an address; `{number}` in it is the request's."""

    def script(visit: Visit) -> None:
        visit.answer(status, location=target.format(number=visit.number))

    return script


def redirects_to_bytes(location: bytes) -> Script:
    """Sends to what is no text."""

    def script(visit: Visit) -> None:
        visit.send(
            b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"
        )

    return script


def redirects_with_an_endless_page(visit: Visit) -> None:
    """Sends to an address, and chunks of a page along with it."""
    visit.send(head(302, location="/2", transfer_encoding="chunked"))
    while not visit.waits(0):
        visit.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def silent(visit: Visit) -> None:
    """Takes the request and says nothing."""
    visit.wait_until_left()


def drips_headers(visit: Visit) -> None:
    """A byte of the headers now and then."""
    visit.send(b"HTTP/1.1 200 OK\r\n")
    visit.drip(b"X-Slow: " + b"a" * 10_000)


def drips_body(visit: Visit) -> None:
    """A byte of the photo now and then: never silent, never done."""
    visit.send(head(200, content_length=str(len(pictures.jpeg()))))
    visit.drip(pictures.jpeg())


def stalls_in_body(visit: Visit) -> None:
    """Half a photo, then silence."""
    visit.send(head(200, content_length=str(len(pictures.jpeg()))) + pictures.cut_off())
    visit.wait_until_left()


def endless_chunks(visit: Visit) -> None:
    """A chunked body without an end."""
    visit.send(head(200, transfer_encoding="chunked"))
    while not visit.waits(0):
        visit.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def endless_error_page(visit: Visit) -> None:
    """404, and a page without an end."""
    visit.send(head(404, transfer_encoding="chunked"))
    while not visit.waits(0):
        visit.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def endless_continue(visit: Visit) -> None:
    """`100 Continue` for ever."""
    while not visit.waits(0):
        visit.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def resets_at_once(visit: Visit) -> None:
    """RST for an answer."""
    visit.reset()


def hangs_up(visit: Visit) -> None:
    """Closes without a word."""
    visit.is_over = True


def resets_in_body(visit: Visit) -> None:
    """Half a photo, then RST."""
    visit.send(head(200, content_length=str(len(pictures.jpeg()))) + pictures.cut_off())
    visit.waits(0.1)  # else the RST overtakes the bytes
    visit.reset()


def short_of_its_length(visit: Visit) -> None:
    """Fewer bytes than Content-Length says."""
    visit.answer(200, pictures.cut_off(), len(pictures.jpeg()))


def cut_without_length(visit: Visit) -> None:
    """Half a photo of unknown length; its end is the connection's."""
    visit.send(head(200, connection="close") + pictures.cut_off())


def cut_in_chunks(visit: Visit) -> None:
    """A chunked body that ends without its last chunk."""
    data = pictures.cut_off()
    visit.send(head(200, transfer_encoding="chunked"))
    visit.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def breaks_a_chunk(visit: Visit) -> None:
    """A chunk whose length is no number."""
    visit.send(head(200, transfer_encoding="chunked") + b"zebra\r\n" + pictures.jpeg())


def chunked(visit: Visit) -> None:
    """A sound photo in chunks."""
    visit.send(head(200, transfer_encoding="chunked"))
    for start, end in itertools.pairwise((0, 100, 700, len(pictures.jpeg()))):
        data = pictures.jpeg()[start:end]
        visit.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    visit.send(b"0\r\n\r\n")
    visit.is_over = False


def stale_keep_alive(visit: Visit) -> None:
    """Promises to keep the connection, and closes it when it is used again."""
    if visit.number == 1:
        visit.answer(302, location="/again")
    elif visit.number == 2:
        visit.is_over = True
    else:
        visit.answer(200, pictures.jpeg())


def packs(data: bytes | Callable[[], bytes], *, times: int = 1) -> Script:
    """Sends gzip although it was asked for plain bytes."""

    def script(visit: Visit) -> None:
        body = data if isinstance(data, bytes) else data()
        visit.answer(200, body, content_encoding=", ".join(["gzip"] * times))

    return script


def packed_jpeg() -> bytes:
    """A sound photo, packed."""
    return gzip.compress(pictures.jpeg())


def over_the_limit(visit: Visit) -> None:
    """A JPEG that goes on beyond the limit of a photo."""
    visit.answer(200, pictures.jpeg() + bytes(MAX_BYTES))


def many_headers(visit: Visit) -> None:
    """100,000 bytes of headers."""
    lines = b"".join(b"X-Header-%04d: %s\r\n" % (n, b"a" * 80) for n in range(1000))
    visit.send(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 0\r\n\r\n")


def one_long_header(visit: Visit) -> None:
    """A header of 300,000 bytes."""
    visit.send(b"HTTP/1.1 200 OK\r\nX-Header: " + b"a" * 300_000 + b"\r\n\r\n")


def speaks_http_9(visit: Visit) -> None:
    """A version that nobody knows."""
    visit.send(b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n")


def speaks_ssh(visit: Visit) -> None:
    """Another protocol's greeting."""
    visit.send(b"SSH-2.0-OpenSSH_9.6\r\n")
