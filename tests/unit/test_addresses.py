"""Which addresses may be asked: names and literals in all their spellings."""

from __future__ import annotations

import ipaddress

import pytest

from croplake.fetching.addresses import AddressRules, host_key, is_public
from croplake.fetching.outcome import PhotoError

RULES = AddressRules()
INTERNAL = AddressRules(frozenset({"mirror.corp", "10.1.2.3", "::1"}))


def judged(url: str, rules: AddressRules = RULES, *, behind_proxy: bool = False) -> str:
    """`allowed`, or the status of the refusal."""
    try:
        rules.check_url(url, behind_proxy=behind_proxy)
    except PhotoError as error:
        return str(error.status)
    return "allowed"


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "2606:4700:4700::1111",
        "64:ff9b::808:808",  # 8.8.8.8 by NAT64
        "2002:808:808::1",  # 8.8.8.8 by 6to4
        "::ffff:8.8.8.8",
    ],
)
def test_an_address_of_the_open_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",  # IPv4-compatible
        "::ffff:127.0.0.1",  # IPv4-mapped
        "::ffff:0:127.0.0.1",  # IPv4-translated
        "64:ff9b::7f00:1",  # NAT64
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",  # NAT64 of a local prefix
        "2002:7f00:1::1",  # 6to4
        "2002:a9fe:a9fe::1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",  # site-local
        "ff02::1",
    ],
)
def test_an_address_of_ones_own_network_is_not_public_however_it_is_wrapped(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("behind_proxy", [False, True])
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "169.254.169.254",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0xa9.0xfe.0xa9.0xfe",
        "0",
        "１２７.０.０.１",
        "127。0。0。1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1%25eth0]",
        "[fd00:ec2::254]",
    ],
)
def test_a_private_literal_is_forbidden_in_every_notation(host: str, behind_proxy: bool) -> None:
    assert judged(f"http://{host}/x.jpg", behind_proxy=behind_proxy) == "forbidden_address"
    assert judged(f"https://{host}:8443/x.jpg", behind_proxy=behind_proxy) == "forbidden_address"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "photo.jpg",
        "//host.example/x.jpg",
        "file:///etc/passwd",
        "ftp://host.example/x.jpg",
        "gopher://host.example/x",
        "javascript:alert(1)",
        "http://",
        "http:///x.jpg",
        "http://:80/x.jpg",
        "http://.../x.jpg",
        "http://host.example:port/x.jpg",
        "http://host.example:99999/x.jpg",
        "http://[::1/x.jpg",
        "http://host.example/a b.jpg",
        "http://host.example/a\tb.jpg",
        "http://host.example/a\r\nHost: evil.example",
        "http://me@host.example/x.jpg",
        "http://me:secret@host.example/x.jpg",
        "http://host.example\\@169.254.169.254/x.jpg",
        "http://host.example\\.evil.example/x.jpg",
        "http://%31%32%37.0.0.1/x.jpg",
        "http://host.example%2f.evil.example/x.jpg",
        "http://" + "ä" * 70 + ".example/x.jpg",
    ],
)
def test_what_is_no_plain_http_address_is_bad(url: str) -> None:
    assert judged(url) == "bad_address"


def test_a_password_in_an_address_is_not_told() -> None:
    with pytest.raises(PhotoError) as error:
        RULES.check_url("http://me:secret@host.example/x.jpg")
    assert "credentials" in error.value.detail
    assert "secret" not in error.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "http://host.example/x.jpg",
        "HTTPS://HOST.Example:8443/x.jpg?a=b#c",
        "http://bücher.example/ä.jpg",
        "http://with_underscore.example/x.jpg",
        "http://host.example./x.jpg",
        "http://8.8.8.8/x.jpg",
        "http://[2606:4700:4700::1111]/x.jpg",
    ],
)
def test_a_public_name_or_literal_may_be_asked(url: str) -> None:
    assert judged(url) == judged(url, behind_proxy=True) == "allowed"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "db",
        "metadata.google.internal",
        "printer.local",
        "x.localhost",
        "nas.home.arpa",
    ],
)
def test_a_name_from_inside_is_left_to_its_look_up_but_never_told_to_a_proxy(host: str) -> None:
    assert judged(f"http://{host}/") == "allowed"
    assert judged(f"http://{host}/", behind_proxy=True) == "forbidden_address"


@pytest.mark.parametrize(
    ("host", "ip", "is_allowed"),
    [
        ("host.example", "8.8.8.8", True),
        ("host.example", "10.0.0.1", False),
        ("host.example", "::1", False),
        ("host.example", "fe80::1%eth0", False),
        ("host.example", "/run/socket", False),
        ("mirror.corp", "10.0.0.1", True),
        ("sub.mirror.corp", "10.0.0.1", False),
    ],
)
def test_a_connection_is_judged_by_where_the_name_has_led(
    host: str, ip: str, is_allowed: bool
) -> None:
    assert INTERNAL.allows(host, ip) == is_allowed


def test_private_hosts_are_allowed_by_name_alone_and_as_literals() -> None:
    assert judged("http://mirror.corp/x.jpg", INTERNAL) == "allowed"
    assert judged("http://MIRROR.corp./x.jpg", INTERNAL, behind_proxy=True) == "allowed"
    assert judged("http://10.1.2.3/x.jpg", INTERNAL) == "allowed"
    assert judged("http://[::1]:80/x.jpg", INTERNAL) == "allowed"
    assert judged("http://10.1.2.4/x.jpg", INTERNAL) == "forbidden_address"
    assert judged("http://me@mirror.corp/x.jpg", INTERNAL) == "bad_address"


def test_a_refusal_says_what_led_where_and_the_way_out() -> None:
    detail = RULES.refusal("host.example", "10.0.0.1").detail
    assert detail == (
        "host.example leads to 10.0.0.1, which is no public address; a host of your own goes into "
        "fetch.private_hosts"
    )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("farm1.staticflickr.com", "staticflickr.com"),
        ("Live.StaticFlickr.com.", "staticflickr.com"),
        ("c1.staticflickr.com", "staticflickr.com"),
        ("open-images-dataset.s3.amazonaws.com", "open-images-dataset.s3.amazonaws.com"),
        ("www.photos.co.uk", "photos.co.uk"),
        ("8.8.8.8", "8.8.8.8"),
        ("localhost", "localhost"),
    ],
)
def test_a_host_is_its_registrable_domain(name: str, key: str) -> None:
    assert host_key(name) == key
