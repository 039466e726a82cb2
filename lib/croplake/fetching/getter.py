"""Bounded HTTP: one address in, its bytes or a named failure out."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter

from croplake import __version__
from croplake.fetching.outcome import PhotoError, Status

_CHUNK_BYTES: Final = 64 * 1024
_MAX_REDIRECTS: Final = 5
_UNAVAILABLE: Final = "photo_unavailable"
"""Flickr redirects a photo that is gone to a placeholder of this name."""


class Getter(Protocol):
    """What fetching needs of HTTP."""

    def get(self, url: str) -> bytes:
        """The body behind an address.

        Raises:
            PhotoError: no whole body came back, and why.
        """


@dataclass(frozen=True)
class HttpLimits:
    """Limits of a download; see `croplake.conf.FetchConf` for each."""

    connect_timeout_s: float
    read_timeout_s: float
    max_bytes: int
    connect_to: dict[str, str] = field(default_factory=dict)
    contact: str | None = None
    connections: int = 32

    @property
    def user_agent(self) -> str:
        """Names the project, and whom to write to."""
        return f"croplake/{__version__}" + (f" ({self.contact})" if self.contact else "")


class HttpGetter:
    """Downloads over pooled keep-alive connections, one session a thread."""

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._local = threading.local()

    def get(self, url: str) -> bytes:
        """Downloads one address, following redirects.

        Args:
            url: http or https.

        Returns:
            The body, whole.

        Raises:
            PhotoError: the status names the failure.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            if urlsplit(url).scheme not in ("http", "https"):
                raise PhotoError(Status.BAD_ADDRESS, f"{url}: not an http(s) address")
            try:
                with self._request(url) as answer:
                    if not answer.is_redirect:
                        return self._body(answer, url)
                    url = requests.compat.urljoin(url, answer.headers["Location"])
            except requests.exceptions.RequestException as error:
                raise _network_error(error, url) from error
            if _UNAVAILABLE in url:
                raise PhotoError(Status.NOT_FOUND, f"redirected to {url}", 302)
        raise PhotoError(Status.TOO_MANY_REDIRECTS, f"more than {_MAX_REDIRECTS}, last to {url}")

    def _request(self, url: str) -> requests.Response:
        parts = urlsplit(url)
        headers = {}
        target = self._limits.connect_to.get(parts.hostname or "")
        if target is not None:
            headers["Host"] = parts.netloc
            url = urlunsplit(parts._replace(netloc=target))
        timeouts = (self._limits.connect_timeout_s, self._limits.read_timeout_s)
        return self._session().get(
            url, headers=headers, timeout=timeouts, stream=True, allow_redirects=False
        )

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # A photo served as gzip could unpack to any size.
            session.headers.update(
                {"User-Agent": self._limits.user_agent, "Accept-Encoding": "identity"}
            )
            adapter = HTTPAdapter(pool_connections=8, pool_maxsize=self._limits.connections)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            self._local.session = session
        return session

    def _body(self, answer: requests.Response, url: str) -> bytes:
        if answer.status_code != requests.codes.ok:
            raise _http_error(answer.status_code, url)
        body = bytearray()
        for chunk in answer.iter_content(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._limits.max_bytes:
                detail = f"{url}: more than {self._limits.max_bytes} bytes"
                raise PhotoError(Status.TOO_MANY_BYTES, detail, answer.status_code)
        expected = answer.headers.get("Content-Length", "")
        if expected.isdecimal() and int(expected) != len(body):
            detail = f"{url}: {len(body)} of {expected} bytes"
            raise PhotoError(Status.INCOMPLETE, detail, answer.status_code)
        return bytes(body)


def _http_error(code: int, url: str) -> PhotoError:
    detail = f"{url}: HTTP {code}"
    if code in (404, 410):
        return PhotoError(Status.NOT_FOUND, detail, code)
    if code in (429, 503):
        return PhotoError(Status.BUSY, detail, code)
    if code >= 500:
        return PhotoError(Status.SERVER_ERROR, detail, code)
    return PhotoError(Status.REFUSED, detail, code)


def _network_error(error: requests.exceptions.RequestException, url: str) -> PhotoError:
    detail = f"{url}: {error}"
    match error:
        case requests.exceptions.ConnectTimeout():
            return PhotoError(Status.HOST_UNREACHABLE, detail)
        case requests.exceptions.Timeout():
            return PhotoError(Status.TIMED_OUT, detail)
        case requests.exceptions.ChunkedEncodingError():
            return PhotoError(Status.INCOMPLETE, detail)
        case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema():
            return PhotoError(Status.BAD_ADDRESS, detail)
        case requests.exceptions.ConnectionError():
            # requests names a read that times out mid-body a ConnectionError as well.
            if "timed out" in str(error).lower():
                return PhotoError(Status.TIMED_OUT, detail)
            unreachable = "Failed to establish" in str(error) or "resolve" in str(error)
            return PhotoError(
                Status.HOST_UNREACHABLE if unreachable else Status.CONNECTION_BROKEN, detail
            )
    return PhotoError(Status.CONNECTION_BROKEN, detail)
