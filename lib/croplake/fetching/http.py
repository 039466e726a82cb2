"""One HTTP request with libcurl: its limits, its body as it comes in, and what its end means."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, urlunsplit

import certifi

from croplake import __version__
from croplake.fetching.addresses import AddressRules, ascii_host
from croplake.fetching.libcurl import pycurl
from croplake.fetching.outcome import PhotoError, Status

MAX_REDIRECTS: Final = 5
UNAVAILABLE: Final = "photo_unavailable"
"""Flickr redirects a photo that is gone to a placeholder of this name."""

_BUFFER_BYTES: Final = 256 * 1024
_MAX_ERROR_BODY_BYTES: Final = 64 * 1024
"""So much of an error page is read, so that its connection can be used again."""
_MAX_HEADER_BYTES: Final = 64 * 1024
_CA_VARIABLES: Final = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_TOO_LARGE: Final = 100
"""CURLE_TOO_LARGE, which pycurl does not name: a header line beyond libcurl's 100 KB."""
_PROXY_FAILED: Final = 97
_SMALL_BODY_BYTES: Final = 1024 * 1024
"""So much of a body is taken in any case."""

_OF_CURL: Final = {
    pycurl.E_URL_MALFORMAT: Status.BAD_ADDRESS,
    pycurl.E_UNSUPPORTED_PROTOCOL: Status.BAD_ANSWER,  # of HTTP: addresses are judged before
    pycurl.E_COULDNT_RESOLVE_HOST: Status.HOST_UNKNOWN,
    pycurl.E_COULDNT_RESOLVE_PROXY: Status.HOST_UNREACHABLE,
    _PROXY_FAILED: Status.HOST_UNREACHABLE,
    pycurl.E_COULDNT_CONNECT: Status.HOST_UNREACHABLE,
    pycurl.E_PEER_FAILED_VERIFICATION: Status.BAD_CERTIFICATE,
    pycurl.E_SSL_CACERT_BADFILE: Status.BAD_CERTIFICATE,
    pycurl.E_PARTIAL_FILE: Status.INCOMPLETE,
    pycurl.E_BAD_CONTENT_ENCODING: Status.BAD_ANSWER,
    pycurl.E_FTP_WEIRD_SERVER_REPLY: Status.BAD_ANSWER,
    _TOO_LARGE: Status.BAD_ANSWER,
    pycurl.E_FILESIZE_EXCEEDED: Status.TOO_MANY_BYTES,
}
"""What libcurl's errors are called here; all others are a broken connection."""


@dataclass(frozen=True)
class HttpLimits:
    """Limits and manners of downloads; see `croplake.conf.FetchConf` for each."""

    connect_timeout_s: float
    read_timeout_s: float
    photo_timeout_s: float
    max_bytes: int
    max_pause_s: float = 60.0
    connect_to: dict[str, str] = field(default_factory=dict)
    private_hosts: frozenset[str] = frozenset()
    ca_file: str | None = None
    contact: str | None = None

    @property
    def user_agent(self) -> str:
        """Names the project, and whom to write to."""
        return f"croplake/{__version__}" + (f" ({self.contact})" if self.contact else "")

    @property
    def ca_bundle(self) -> str:
        """The certificates to trust: the settings', the environment's, else Mozilla's list."""
        from_environment = (os.environ.get(name) for name in _CA_VARIABLES)
        return self.ca_file or next(filter(None, from_environment), None) or certifi.where()


class Answer(NamedTuple):
    """A whole body and how it came."""

    body: bytes
    http_status: int | None
    url: str


def proxy_of(parts: SplitResult, proxies: dict[str, str]) -> str | None:
    """The proxy for an address, None where it is asked directly.

    Args:
        parts: of the address.
        proxies: the environment's, as `urllib.request.getproxies` gives them.
    """
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None or urllib.request.proxy_bypass(ascii_host(parts)):
        return None
    return proxy


class CurlTransfer:
    """An easy handle that is used for one request after the other.

    Attributes:
        curl: the handle.
        num_bytes: of the body, so far.
    """

    def __init__(
        self,
        limits: HttpLimits,
        rules: AddressRules,
        may_grow: Callable[[CurlTransfer], bool] = lambda transfer: True,
    ) -> None:
        """Makes the handle.

        Args:
            limits: of each request.
            rules: of addresses.
            may_grow: asked when a large body goes on; what it denies waits for `go_on`.
        """
        self._limits = limits
        self._rules = rules
        self._may_grow = may_grow
        self.curl = curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        # One connection is one transfer: what hosts and this code count are the same thing.
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.USERAGENT, limits.user_agent.encode())
        # Asks for plain bytes; what comes packed all the same is unpacked, and then counted.
        curl.setopt(pycurl.ACCEPT_ENCODING, "identity")
        curl.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
        curl.setopt(pycurl.CAINFO, os.fsencode(limits.ca_bundle))
        curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
        curl.setopt(pycurl.LOW_SPEED_TIME, max(1, round(limits.read_timeout_s)))
        if limits.connect_to:
            pins = [f"{host}::{address}" for host, address in limits.connect_to.items()]
            curl.setopt(pycurl.CONNECT_TO, pins)
        curl.setopt(pycurl.HEADERFUNCTION, self._read_header)
        curl.setopt(pycurl.WRITEFUNCTION, self._write)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        self._proxies = urllib.request.getproxies()
        self._host = self._url = ""
        self._proxy: str | None = None
        self.num_bytes = 0
        self._reset()

    def _reset(self) -> None:
        self._chunks: list[bytes] = []
        self.num_bytes = 0
        self._http_status = 0
        self._num_header_bytes = 0
        self._expected_bytes: int | None = None
        self._stopped: PhotoError | None = None
        self._refused: PhotoError | None = None

    def prepare(self, url: str, timeout_s: float, expected_bytes: int | None) -> None:
        """Sets the handle up for a request.

        Args:
            url: http or https.
            timeout_s: for all of it, from the look-up of the name to the last byte.
            expected_bytes: length of the body; another announced length is not downloaded.

        Raises:
            PhotoError: the address may not be asked.
        """
        self._reset()
        parts = self._rules.check_url(url)
        self._proxy = proxy_of(parts, self._proxies)
        if self._proxy:
            parts = self._rules.check_url(url, behind_proxy=True)
        self._host, self._url = ascii_host(parts), url
        self._expected_bytes = expected_bytes
        curl = self.curl
        curl.setopt(pycurl.URL, _ascii(parts))
        curl.setopt(pycurl.PROXY, self._proxy or "")
        # libcurl would read NO_PROXY by rules of its own, and connect where nothing is judged.
        curl.setopt(pycurl.NOPROXY, "")
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(timeout_s * 1000)))
        connect_s = min(self._limits.connect_timeout_s, timeout_s)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(connect_s * 1000)))

    def go_on(self) -> None:
        """Reads on after `may_grow` has denied it.

        Raises:
            pycurl.error: the body that had waited goes beyond a limit.
        """
        self.curl.pause(pycurl.PAUSE_CONT)

    def redirect(self) -> str | None:
        """Where the answer sends to, as an absolute address; None where it does not."""
        found: bytes | None = self.curl.getinfo_raw(pycurl.REDIRECT_URL)
        if not found:
            return None
        try:
            return found.decode()
        except UnicodeDecodeError:
            return found.decode("latin-1")

    def answer(self) -> Answer:
        """The end of a request that libcurl calls a success.

        Raises:
            PhotoError: the host's answer is none.
        """
        code = int(self.curl.getinfo(pycurl.RESPONSE_CODE))
        if code != 200:
            raise self._http_error(code)
        if self._expected_bytes not in (None, self.num_bytes):
            raise self._wrong_size(self.num_bytes)
        chunks, self._chunks = self._chunks, []
        return Answer(chunks[0] if len(chunks) == 1 else b"".join(chunks), code, self._url)

    def error(self, number: int, message: str) -> PhotoError:
        """The end of a request that libcurl calls a failure."""
        if self._stopped is not None:
            return self._stopped
        # A name with several addresses may have been refused one and have failed at another.
        if self._refused is not None and number == pycurl.E_COULDNT_CONNECT:
            return self._refused
        code = int(self.curl.getinfo(pycurl.RESPONSE_CODE))
        if code not in (0, 200):
            return self._http_error(code)
        detail = f"{self._url}: {message}"
        status = _OF_CURL.get(number, Status.CONNECTION_BROKEN)
        if number == pycurl.E_OPERATION_TIMEDOUT:
            # libcurl's times are set by its errors too; what was sent is not.
            was_asked = self.curl.getinfo(pycurl.REQUEST_SIZE) > 0
            status = Status.TIMED_OUT if was_asked else Status.HOST_UNREACHABLE
        elif number == pycurl.E_FILESIZE_EXCEEDED:
            detail = f"{self._url}: more than {self._limits.max_bytes} bytes"
        elif number == _TOO_LARGE:
            detail = f"{self._url}: a header beyond libcurl's 100 KB"
        elif "chunk" in message.lower() or "HTTP/0.9" in message:
            status = Status.BAD_ANSWER
        return PhotoError(status, detail, code or None)

    def _read_header(self, line: bytes) -> int | None:
        """Called for each line; libcurl's own figures cannot be asked while it runs."""
        self._num_header_bytes += len(line)
        if self._num_header_bytes > _MAX_HEADER_BYTES:
            detail = f"{self._url}: headers of more than {_MAX_HEADER_BYTES} bytes"
            self._stopped = PhotoError(Status.BAD_ANSWER, detail, self._http_status or None)
            return 0
        if line.startswith(b"HTTP/"):
            words = line.split(None, 2)
            self._http_status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        elif self._expected_bytes is not None and line[:15].lower() == b"content-length:":
            length = line[15:].strip()
            wanted = self._expected_bytes
            if self._http_status == 200 and length.isdigit() and int(length) != wanted:
                self._stopped = self._wrong_size(int(length))
                return 0
        return None

    def _write(self, data: bytes) -> int | None:
        is_large = self._http_status == 200 and self.num_bytes > _SMALL_BODY_BYTES
        if is_large and not self._may_grow(self):
            return int(pycurl.WRITEFUNC_PAUSE)
        self.num_bytes += len(data)
        if self._http_status != 200:
            return None if self.num_bytes <= _MAX_ERROR_BODY_BYTES else 0
        if self.num_bytes > self._limits.max_bytes:
            detail = f"{self._url}: more than {self._limits.max_bytes} bytes"
            self._stopped = PhotoError(Status.TOO_MANY_BYTES, detail, 200)
            return 0
        self._chunks.append(data)
        return None

    def _open_socket(self, purpose: int, address: tuple[int, int, int, tuple[str, int]]) -> object:
        """Judges where a name has led to before anything connects; a proxy is one's own choice."""
        family, kind, protocol, place = address
        host = self._host
        if not self._proxy and not self._rules.allows(host, place[0]):
            self._refused = self._rules.refusal(host, place[0])
            return pycurl.SOCKET_BAD
        return socket.socket(family, kind, protocol)

    def _wrong_size(self, found: int) -> PhotoError:
        detail = f"{self._url}: {found} bytes, the catalog says {self._expected_bytes}"
        return PhotoError(Status.WRONG_SIZE, detail, 200)

    def _http_error(self, code: int) -> PhotoError:
        detail = f"{self._url}: HTTP {code}"
        if code in (404, 410):
            return PhotoError(Status.NOT_FOUND, detail, code)
        if code in (429, 503):
            asked_s = float(self.curl.getinfo(pycurl.RETRY_AFTER))
            if asked_s:
                detail += f", to be left alone for {asked_s:g} s"
            return PhotoError(Status.BUSY, detail, code, retry_after_s=asked_s or None)
        if code >= 500:
            return PhotoError(Status.SERVER_ERROR, detail, code)
        if code == 407 and self._proxy:
            return PhotoError(Status.HOST_UNREACHABLE, f"{detail} of the proxy", code)
        return PhotoError(Status.REFUSED, detail, code)


def _ascii(parts: SplitResult) -> str:
    """An address as it goes over the wire: no blanks, nothing beyond ASCII."""
    netloc = parts.netloc
    if not netloc.isascii():
        netloc = ascii_host(parts) + (f":{parts.port}" if parts.port else "")
    path, query = (quote(text, safe="%/:=&?~#+!$,;'@()*[]") for text in (parts.path, parts.query))
    return urlunsplit((parts.scheme, netloc, path or "/", query, ""))
