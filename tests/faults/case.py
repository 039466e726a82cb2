"""A fault case: what a photo's host does, and how the photo has to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from croplake.fetching.outcome import Status
from tests.faults.faults import serves
from tests.faults.pictures import jpeg
from tests.faults.server import Script

CONNECT_TIMEOUT_S: Final = 1.0
READ_TIMEOUT_S: Final = 1.0
PHOTO_TIMEOUT_S: Final = 5.0
MAX_PAUSE_S: Final = 1.0
MAX_PIXELS: Final = 1_000_000
QUICK_S: Final = 3.5
"""What is no matter of time-outs is over by then, on a machine that is busy with all cases."""
IN_TIME_S: Final = PHOTO_TIMEOUT_S + 1.0
"""The photo's deadline, and what a busy machine takes to notice."""

_SENDS_THE_PHOTO: Final = serves(jpeg)

Place = Literal[
    "http", "https", "expired", "wrong_host", "unknown_ca", "refusing", "mute", "black_hole"
]
"""What a name leads to: our server (plain, or with one of its certificates), a port where nobody
listens, one that takes connections and says nothing, one that takes none."""


@dataclass(frozen=True)
class Case:
    """A photo, its hosts and its end.

    Attributes:
        name: also of its host, so that no case paces another.
        does: what the host does, for a reader.
        status: of all its boxes.
        detail: a piece of the detail.
        script: of the host.
        original: its address; `{host}` and `{other}` are the case's hosts.
        thumbnail: the fall-back, if any.
        leads_to: where the host's name leads to.
        is_private: whether the settings allow the host to be private, as all here are.
        http_status: of the answer that decided.
        source: that decided.
        num_requests: that the two hosts together see; None where it does not matter.
        least_s: the time it has to take.
        greatest_s: the time it may take.
        size_bytes: what the catalog says of the original.
        md5_base64: what the catalog says of the original.
        at_hand: content of a file that holds the photo.
    """

    name: str
    does: str
    status: Status
    detail: str = ""
    script: Script = _SENDS_THE_PHOTO
    original: str | None = "http://{host}/photo.jpg"
    thumbnail: str | None = None
    leads_to: Place = "http"
    is_private: bool = True
    http_status: int | None = None
    source: str | None = "original"
    num_requests: int | None = 1
    least_s: float = 0.0
    greatest_s: float = QUICK_S
    size_bytes: int | None = None
    md5_base64: str | None = None
    at_hand: bytes | None = None

    @property
    def host(self) -> str:
        """The name of its host."""
        return f"{self.name.replace('_', '-')}.example"

    @property
    def other(self) -> str:
        """The name of its second host, which sends the photo; another registrable domain."""
        return f"{self.name.replace('_', '-')}-other.example"

    def address(self, template: str | None) -> str | None:
        """An address of the table with the hosts' names in it."""
        return template and template.replace("{host}", self.host).replace("{other}", self.other)
