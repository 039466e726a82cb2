"""A published file over HTTP: whole at last, whatever broke off on the way."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import requests

from croplake import storage
from croplake.errors import IncompleteError, InputDataError
from croplake.fetching.http import HttpLimits
from croplake.storage import cache_folder

_CHUNK_BYTES: Final = 1 << 16
"""What is lost at most when an answer breaks off."""
_TRIES: Final = 5
"""Answers in a row that may break off without a byte."""
_FACTS: Final = ".source.json"
_PART: Final = ".part"
_BROKEN: Final = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)
_GO_ON: Final = "the same command goes on from there"


@dataclass(frozen=True)
class _Facts:
    """What tells one state of a published file from another.

    Attributes:
        num_bytes: as announced; None where it is not.
        etag: `ETag`, else `Last-Modified`, else None.
    """

    num_bytes: int | None
    etag: str | None


def download(source: str, folder: str, limits: HttpLimits) -> str:
    """Brings a file below a folder, going on where an earlier download broke off.

    Args:
        source: http(s) address.
        folder: address of the folder; a whole earlier download that is still what its host has is
            used again.
        limits: of HTTP.

    Returns:
        The address of the file: that of the source below its host's name, with a hash of its query
        where it has one.

    Raises:
        InputDataError: the host does not have it.
        IncompleteError: the host is out of reach or broke off too often.
    """
    parts = urlsplit(source)
    url, headers = source, {"User-Agent": limits.user_agent, "Accept-Encoding": "identity"}
    if parts.hostname in limits.connect_to:
        url = urlunsplit(parts._replace(netloc=limits.connect_to[parts.hostname]))
        headers["Host"] = parts.netloc
    return _Download(source, url, headers, folder, limits).run()


def _place(source: str) -> str:
    """Where a file lies below the folder of downloads: another for every address."""
    parts = urlsplit(source)
    query = f"-{hashlib.sha256(parts.query.encode()).hexdigest()[:16]}" if parts.query else ""
    return f"{parts.netloc}/{parts.path.lstrip('/')}{query}"


class _Download:
    """One file on its way."""

    def __init__(
        self, source: str, url: str, headers: dict[str, str], folder: str, limits: HttpLimits
    ) -> None:
        self._source, self._url, self._headers = source, url, headers
        self._target = storage.join(folder, _place(source))
        self._timeouts = (limits.connect_timeout_s, limits.read_timeout_s)
        self._ca_bundle = limits.ca_bundle
        # Only a file system lets a file grow; elsewhere it does so on this machine.
        path = (
            storage.local_path(self._target)
            if storage.is_local(self._target)
            else cache_folder("sources") / _place(source)
        )
        self._part = path.with_name(path.name + _PART)
        self._part_facts = path.with_name(path.name + _PART + _FACTS)

    def run(self) -> str:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        tries_left = _TRIES
        while True:
            before = self._num_bytes()
            try:
                if self._ask():
                    return self._target
                problem = "the answer ended early"
            except _BROKEN as error:
                problem = str(error)
            except requests.exceptions.RequestException as error:
                raise IncompleteError(f"{self._source}: {error}; {_GO_ON}") from error
            tries_left = _TRIES if self._num_bytes() > before else tries_left - 1
            if not tries_left:
                raise IncompleteError(
                    f"{self._source}: broke off {_TRIES} times at byte {before:,}: {problem}; "
                    f"{_GO_ON}"
                )

    def _ask(self) -> bool:
        """One request; whether the file is whole now."""
        begun = _read_facts(self._part_facts)
        start = self._num_bytes() if begun is not None and begun.etag is not None else 0
        headers = dict(self._headers)
        if start and begun is not None:
            headers |= {"Range": f"bytes={start}-", "If-Range": str(begun.etag)}
        answer = requests.get(
            self._url,
            headers=headers,
            timeout=self._timeouts,
            stream=True,
            verify=self._ca_bundle,
        )
        with answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                self._forget_part()
                return False
            if answer.status_code == requests.codes.partial_content and begun is not None:
                return self._take(answer, begun, start)
            if answer.status_code != requests.codes.ok:
                may_pass = answer.status_code == 429 or answer.status_code >= 500
                kind = IncompleteError if may_pass else InputDataError
                raise kind(f"{self._source}: HTTP {answer.status_code}, expected the file")
            facts = _facts_of(answer)
            if self._is_there(facts):
                return True
            self._forget_part()
            self._part_facts.write_text(json.dumps(asdict(facts)), encoding="utf-8")
            return self._take(answer, facts, 0)

    def _take(self, answer: requests.Response, facts: _Facts, start: int) -> bool:
        with self._part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            for chunk in answer.iter_content(_CHUNK_BYTES):
                file.write(chunk)
        found = self._num_bytes()
        if facts.num_bytes is not None and found < facts.num_bytes:
            return False
        if facts.num_bytes is not None and found > facts.num_bytes:
            self._forget_part()
            raise IncompleteError(
                f"{self._source}: {found} bytes came, {facts.num_bytes} were announced; the same "
                "command tries again"
            )
        self._land(facts)
        return True

    def _land(self, facts: _Facts) -> None:
        if storage.is_local(self._target):
            self._part.replace(storage.local_path(self._target))
        else:
            storage.upload_file(self._part, self._target)
        storage.write_bytes(self._target + _FACTS, json.dumps(asdict(facts)).encode())
        self._forget_part()

    def _is_there(self, facts: _Facts) -> bool:
        """Whether what has landed is what the host has now."""
        size = storage.size_bytes(self._target)
        if size is None or facts.num_bytes != size:
            return False
        landed = self._target + _FACTS
        known = storage.read_bytes(landed) if storage.exists(landed) else None
        return known is None or json.loads(known) == asdict(facts)

    def _num_bytes(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _forget_part(self) -> None:
        self._part.unlink(missing_ok=True)
        self._part_facts.unlink(missing_ok=True)


def _facts_of(answer: requests.Response) -> _Facts:
    length = answer.headers.get("Content-Length", "")
    etag = answer.headers.get("ETag")
    # A weak one says that files mean the same, not that their bytes are: no use to go on from.
    if etag is None or etag.startswith("W/"):
        etag = answer.headers.get("Last-Modified")
    return _Facts(int(length) if length.isdecimal() else None, etag)


def _read_facts(path: Path) -> _Facts | None:
    if not path.exists():
        return None
    try:
        return _Facts(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # killed while it was written
        return None
