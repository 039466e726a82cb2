"""Behind a proxy: it is used as the environment says, and told no name that is not public."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from croplake import tables as t
from croplake.fetching.http import HttpLimits
from tests.faults.certificates import Certificates, make_certificates, server_context
from tests.faults.faults import MAX_BYTES, in_turn, redirects, serves
from tests.faults.pictures import jpeg
from tests.faults.proxy import ForwardProxy
from tests.faults.running import Row, fetch_rows, fetcher_for, photo_row, rules_for
from tests.faults.running import watched_transfers as watched
from tests.faults.server import FaultServer, Script, refusing_address

pytestmark = pytest.mark.timeout(60)
HOST = "photos.example"
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), [HOST])


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({HOST: serves(jpeg)}) as running:
        yield running


def fetch(url: str, *, ca_file: Path | None = None, private: tuple[str, ...] = ()) -> Row:
    """One photo; its row."""
    limits = HttpLimits(
        connect_timeout_s=3.0,
        read_timeout_s=3.0,
        photo_timeout_s=6.0,
        max_bytes=MAX_BYTES,
        max_pause_s=0.5,
        private_hosts=frozenset(private),
        ca_file=str(ca_file) if ca_file else None,
    )
    fetcher = fetcher_for(limits, rules_for(("original",), photo_timeout_s=6.0, rounds=1))
    return fetch_rows(fetcher, [photo_row("00aa", url)])[0]


def test_a_name_that_only_the_proxy_can_look_up_is_fetched_through_it(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = ForwardProxy({HOST: server.address})
    with proxy.listening() as listening, watched() as seen:
        monkeypatch.setenv("http_proxy", f"http://ann:secret@{listening.address}")
        row = fetch(f"http://{HOST}/a.jpg?b=c")
    assert row[t.STATUS] == "ok", row[t.DETAIL]
    assert proxy.asked == [("GET", f"http://{HOST}/a.jpg?b=c")]
    assert proxy.authorizations == ["Basic YW5uOnNlY3JldA=="]
    assert seen.connected == {listening.address}
    assert server.log[HOST].paths == ["/a.jpg?b=c"]


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_https_goes_through_a_tunnel_and_the_hosts_own_certificate_counts(
    variable: str,
    server: FaultServer,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = ForwardProxy({HOST: server.listen(server_context(certificates.valid))})
    with proxy.listening() as listening:
        monkeypatch.setenv(variable, f"http://{listening.address}")
        row = fetch(f"https://{HOST}/a.jpg", ca_file=certificates.ca)
    assert row[t.STATUS] == "ok", row[t.DETAIL]
    assert proxy.asked == [("CONNECT", f"{HOST}:443")]


def test_an_expired_certificate_is_seen_through_a_tunnel(
    server: FaultServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = ForwardProxy({HOST: server.listen(server_context(certificates.expired))})
    with proxy.listening() as listening:
        monkeypatch.setenv("https_proxy", f"http://{listening.address}")
        row = fetch(f"https://{HOST}/a.jpg", ca_file=certificates.ca)
    assert row[t.STATUS] == "bad_certificate"
    assert server.num_requests(HOST) == 0


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "169.254.169.254",
        "[::1]",
        "１２７.０.０.１",
        "localhost",
        "db",
        "metadata.google.internal",
        "printer.local",
    ],
)
def test_the_proxy_is_not_asked_for_what_may_lie_inside(
    host: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = ForwardProxy({HOST: server.address})
    with proxy.listening() as listening, watched() as seen:
        for variable in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(variable, f"http://{listening.address}")
        statuses = [fetch(f"{scheme}://{host}/a.jpg")[t.STATUS] for scheme in ("http", "https")]
    assert statuses == ["forbidden_address"] * 2
    assert proxy.asked == []
    assert seen.connected == set()


@pytest.mark.parametrize("target", ["http://127.1/", "http://localhost/", "http://10.0.0.1/"])
def test_a_redirect_behind_a_proxy_is_judged_too(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer({HOST: redirects(target)}) as server:
        proxy = ForwardProxy({HOST: server.address})
        with proxy.listening() as listening:
            monkeypatch.setenv("http_proxy", f"http://{listening.address}")
            row = fetch(f"http://{HOST}/a.jpg")
    assert row[t.STATUS] == "forbidden_address"
    assert proxy.asked == [("GET", f"http://{HOST}/a.jpg")]


def test_a_private_host_of_the_settings_may_be_asked_of_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FaultServer({"mirror.internal": serves(jpeg)}) as server:
        proxy = ForwardProxy({"mirror.internal": server.address})
        with proxy.listening() as listening:
            monkeypatch.setenv("http_proxy", f"http://{listening.address}")
            row = fetch("http://mirror.internal/a.jpg", private=("mirror.internal",))
    assert row[t.STATUS] == "ok", row[t.DETAIL]


def test_what_no_proxy_names_is_asked_directly_and_judged_by_where_it_leads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = ForwardProxy({})
    with proxy.listening() as listening, watched() as seen:
        monkeypatch.setenv("http_proxy", f"http://{listening.address}")
        monkeypatch.setenv("no_proxy", "localhost,.corp.example")
        row = fetch("http://localhost/a.jpg")
    assert row[t.STATUS] == "forbidden_address"
    assert "localhost leads to 127.0.0.1" in row[t.DETAIL]
    assert proxy.asked == []
    assert seen.connected == set()


def test_what_only_libcurl_would_leave_out_of_the_proxy_goes_through_it(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readings of NO_PROXY would be a way past the judgement of where a name leads."""
    proxy = ForwardProxy({HOST: server.address})
    with proxy.listening() as listening:
        monkeypatch.setenv("http_proxy", f"http://{listening.address}")
        monkeypatch.setenv("no_proxy", f"{HOST}.")  # for libcurl the same name
        row = fetch(f"http://{HOST}/a.jpg")
    assert row[t.STATUS] == "ok", row[t.DETAIL]
    assert proxy.asked == [("GET", f"http://{HOST}/a.jpg")]


def refused_by(proxy: ForwardProxy, url: str, monkeypatch: pytest.MonkeyPatch) -> Row:
    with proxy.listening() as listening:
        for variable in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(variable, f"http://{listening.address}")
        return fetch(url)


@pytest.mark.parametrize(("code", "status"), [(407, "host_unreachable"), (502, "server_error")])
def test_a_proxy_that_will_not_is_told_by_its_own_answer(
    code: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = ForwardProxy({}, refuses_with=code)
    row = refused_by(proxy, f"http://{HOST}/a.jpg", monkeypatch)
    assert (row[t.STATUS], row[t.HTTP_STATUS]) == (status, code)


@pytest.mark.parametrize("code", [407, 502])
def test_a_proxy_that_opens_no_tunnel_leaves_the_host_out_of_reach(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = ForwardProxy({}, refuses_with=code)
    row = refused_by(proxy, f"https://{HOST}/a.jpg", monkeypatch)
    assert row[t.STATUS] == "host_unreachable"
    assert str(code) in row[t.DETAIL]


def test_a_proxy_that_is_down_leaves_the_host_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing_address() as address:
        monkeypatch.setenv("http_proxy", f"http://{address}")
        row = fetch(f"http://{HOST}/a.jpg")
    assert row[t.STATUS] == "host_unreachable"


def test_a_redirect_from_http_to_https_changes_the_proxy_too(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    script: Script = in_turn(redirects(f"https://{HOST}/b.jpg"), serves(jpeg))
    with FaultServer({HOST: script}) as server:
        secure = server.listen(server_context(certificates.valid))
        plain_proxy, tunnel_proxy = (
            ForwardProxy({HOST: server.address}),
            ForwardProxy({HOST: secure}),
        )
        with plain_proxy.listening() as plain, tunnel_proxy.listening() as tunnel:
            monkeypatch.setenv("http_proxy", f"http://{plain.address}")
            monkeypatch.setenv("https_proxy", f"http://{tunnel.address}")
            row = fetch(f"http://{HOST}/a.jpg", ca_file=certificates.ca)
    assert row[t.STATUS] == "ok", row[t.DETAIL]
    assert [method for method, _ in plain_proxy.asked] == ["GET"]
    assert [method for method, _ in tunnel_proxy.asked] == ["CONNECT"]
