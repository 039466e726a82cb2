"""Running fault cases: their hosts on loopback, their photos as rows, their ends as outcomes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from croplake import tables as t
from croplake.fetching.batches import PartitionFetcher
from croplake.fetching.crop import Recipe
from croplake.fetching.http import CurlTransfer, HttpLimits
from croplake.fetching.pacing import HostBudget
from croplake.fetching.photo_task import (
    AT_HAND_FIELD,
    BOXES_FIELD,
    LISTED_FIELD,
    TASK_SCHEMA,
    FetchRules,
)
from croplake.fetching.shares import Budgets
from tests.faults.case import (
    CONNECT_TIMEOUT_S,
    MAX_PAUSE_S,
    MAX_PIXELS,
    PHOTO_TIMEOUT_S,
    READ_TIMEOUT_S,
    Case,
)
from tests.faults.certificates import make_certificates, server_context
from tests.faults.faults import MAX_BYTES, serves
from tests.faults.pictures import jpeg
from tests.faults.server import FaultServer, black_hole, mute_address, refusing_address

Row = dict[str, Any]
SOURCES = ("at_hand", "original", "thumbnail")
NUM_BOXES = 2
"""Of each photo."""


@dataclass(frozen=True)
class Hosts:
    """The cases' hosts, ready to be asked.

    Attributes:
        server: sees the requests.
        connect_to: setting of that name.
        private_hosts: setting of that name.
        ca_file: setting of that name.
        folder: holds the files at hand.
    """

    server: FaultServer
    connect_to: dict[str, str]
    private_hosts: frozenset[str]
    ca_file: str
    folder: Path

    def num_requests(self, case: Case) -> int:
        """What a case's hosts have seen."""
        return sum(self.server.num_requests(host) for host in (case.host, case.other))


@dataclass(frozen=True)
class Outcome:
    """How a photo ended.

    Attributes:
        rows: of its boxes.
        seconds: from the photo's first request to its end.
    """

    rows: list[Row]
    seconds: float

    @property
    def row(self) -> Row:
        """The first of them; the others tell the same."""
        return self.rows[0]


@contextlib.contextmanager
def case_hosts(cases: Iterable[Case], folder: Path) -> Iterator[Hosts]:
    """Opens the hosts of cases; `folder` takes certificates and files at hand."""
    cases = list(cases)
    scripts = {case.host: case.script for case in cases}
    scripts |= {case.other: serves(jpeg) for case in cases}
    secure = [case.host for case in cases if (case.original or "").startswith("https:")]
    certificates = make_certificates(folder / "certificates", secure)
    (folder / "at_hand").mkdir()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(FaultServer(scripts))
        places = {
            "http": server.address,
            "https": server.listen(server_context(certificates.valid)),
            "expired": server.listen(server_context(certificates.expired)),
            "wrong_host": server.listen(server_context(certificates.wrong_host)),
            "unknown_ca": server.listen(server_context(certificates.unknown_ca)),
            "refusing": stack.enter_context(refusing_address()),
            "mute": stack.enter_context(mute_address()),
            "black_hole": stack.enter_context(black_hole()),
        }
        connect_to: dict[str, str] = {}
        private: set[str] = set()
        for case in cases:
            connect_to |= {case.host: places[case.leads_to], case.other: server.address}
            private |= {case.host, case.other} if case.is_private else set()
            if case.at_hand is not None:
                (folder / "at_hand" / f"{image_id_of(case)}.jpg").write_bytes(case.at_hand)
        ca_file = str(certificates.ca)
        yield Hosts(server, connect_to, frozenset(private), ca_file, folder / "at_hand")


def image_id_of(case: Case) -> str:
    """The photo's id: 16 hexadecimal digits of its name."""
    return case.name.encode().hex()[:8] + f"{sum(case.name.encode() * 97) & 0xFFFFFFFF:08x}"


def limits_for(hosts: Hosts, **changes: Any) -> HttpLimits:  # noqa: ANN401
    """Small limits, so that every case is over soon."""
    values: dict[str, Any] = {
        "connect_timeout_s": CONNECT_TIMEOUT_S,
        "read_timeout_s": READ_TIMEOUT_S,
        "photo_timeout_s": PHOTO_TIMEOUT_S,
        "max_bytes": MAX_BYTES,
        "max_pause_s": MAX_PAUSE_S,
        "connect_to": hosts.connect_to,
        "private_hosts": hosts.private_hosts,
        "ca_file": hosts.ca_file,
    }
    return HttpLimits(**values | changes)


def rules_for(sources: tuple[str, ...] = SOURCES, **changes: Any) -> FetchRules:  # noqa: ANN401
    """Rules with the same limits."""
    values: dict[str, Any] = {
        "recipe": Recipe(0.0, 64, 90, "lanczos"),
        "sources": sources,
        "mirror_url": "http://mirror.example/{subset}/{image_id}.jpg",
        "max_photo_pixels": MAX_PIXELS,
        "run_id": "run",
        "photo_timeout_s": PHOTO_TIMEOUT_S,
    }
    return FetchRules(**values | changes)


def photo_row(image_id: str, original: str | None, **changes: Any) -> Row:  # noqa: ANN401
    """A row of `TASK_SCHEMA` with its boxes."""
    row: Row = dict.fromkeys(TASK_SCHEMA.names)
    row |= {t.IMAGE_ID: image_id, t.SUBSET: "train", LISTED_FIELD: True, t.ROTATION_DEG: 0}
    row |= {t.ORIGINAL_URL: original, t.LICENSE: "by", t.AUTHOR: "Ann"}
    row[BOXES_FIELD] = [
        dict(zip(t.CORNERS, (0.1, 0.6, 0.2, 0.9), strict=True))
        | {t.BOX_ID: f"{image_id}-{number}", t.LABEL_MID: "/m/1", t.ATTEMPT: 1}
        for number in range(NUM_BOXES)
    ]
    return row | changes


def row_of(case: Case, hosts: Hosts) -> Row:
    """A case's photo."""
    image_id = image_id_of(case)
    at_hand = None
    if case.at_hand is not None:
        uri = (hosts.folder / f"{image_id}.jpg").as_uri()
        at_hand = {"uri": uri, "offset_bytes": 0, "num_bytes": -1}
    return photo_row(
        image_id,
        case.address(case.original),
        thumbnail_url=case.address(case.thumbnail),
        original_size_bytes=case.size_bytes,
        original_md5_base64=case.md5_base64,
        **{AT_HAND_FIELD: at_hand},
    )


def fetcher_for(limits: HttpLimits, rules: FetchRules, **changes: Any) -> PartitionFetcher:  # noqa: ANN401
    """What executors run, alone in the world."""
    values: dict[str, Any] = {
        "budgets": Budgets({"*": HostBudget(transfers=8)}),
        "num_tasks": 1,
        "transfers": 256,
    }
    return PartitionFetcher(rules=rules, limits=limits, **values | changes)


def fetch_rows(fetcher: PartitionFetcher, rows: list[Row]) -> list[Row]:
    """Runs a partition; rows of `crops`."""
    batches = pa.Table.from_pylist(rows, schema=TASK_SCHEMA).to_batches()
    return [row for batch in fetcher(batches) for row in batch.to_pylist()]


@dataclass(frozen=True)
class Watched:
    """What this process's transfers did.

    Attributes:
        begun: address to the time it was first asked, or refused.
        connected: `ip:port` of every socket that was opened.
    """

    begun: dict[str, datetime]
    connected: set[str]


@contextlib.contextmanager
def watched_transfers() -> Iterator[Watched]:
    """Looks at the transfers of this process."""
    watched = Watched({}, set())
    prepare, judge = CurlTransfer.prepare, CurlTransfer._open_socket

    def noting_prepare(self: CurlTransfer, url: str, *given: Any) -> None:  # noqa: ANN401
        watched.begun.setdefault(url, datetime.now(UTC))
        prepare(self, url, *given)

    def noting_judge(self: CurlTransfer, purpose: int, address: Any) -> object:  # noqa: ANN401
        opened = judge(self, purpose, address)
        if isinstance(opened, socket.socket):
            watched.connected.add(f"{address[3][0]}:{address[3][1]}")
        return opened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CurlTransfer, "prepare", noting_prepare)
        patch.setattr(CurlTransfer, "_open_socket", noting_judge)
        yield watched


def run_cases(cases: Iterable[Case], hosts: Hosts, watched: Watched) -> dict[str, Outcome]:
    """Runs cases as the photos of one partition, all at the same time."""
    cases = list(cases)
    fetcher = fetcher_for(limits_for(hosts), rules_for())
    begun = datetime.now(UTC)
    crops = fetch_rows(fetcher, [row_of(case, hosts) for case in cases])
    first = {case.name: case.address(case.original) or "" for case in cases}
    starts = {name: watched.begun.get(url, begun) for name, url in first.items()}
    return outcomes_of(crops, cases, starts)


def outcomes_of(
    crops: list[Row], cases: Iterable[Case], starts: dict[str, datetime]
) -> dict[str, Outcome]:
    """Rows of `crops` by the names of the cases they belong to, and the time since these starts."""
    found = {}
    for case in cases:
        rows = [row for row in crops if row[t.IMAGE_ID] == image_id_of(case)]
        ends = [row[t.FETCHED_AT] - starts[case.name] for row in rows]
        rows.sort(key=lambda row: str(row[t.BOX_ID]))
        found[case.name] = Outcome(rows, max(end.total_seconds() for end in ends) if ends else -1)
    return found
