"""Which addresses may be asked: http(s) only, and nothing inside one's own network by accident.

Addresses of photos come from CSV files and from redirects, so from strangers. A name is judged
before it is looked up, and what it led to is judged again before each connection is opened: a name
that leads elsewhere on its second look-up gains nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, urlsplit

from publicsuffixlist import PublicSuffixList

from croplake.fetching.outcome import PhotoError, Status

_INTERNAL_ENDINGS: Final = ("localhost", "local", "internal", "intranet", "lan", "home.arpa")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
_MAX_URL_LETTERS: Final = 8192
"""Servers take no longer ones."""
_NAME: Final = re.compile(r"[a-z0-9_][a-z0-9_.-]*")
"""A host's name as it is looked up; a percent sign in it would be decoded by others."""
_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1)
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=4096)
def host_key(hostname: str) -> str:
    """The name under which a host is paced: its registrable domain, lower case.

    `farm1.staticflickr.com` and `live.staticflickr.com` are one host. An IP address, or a name
    without a registrable domain, stands for itself.
    """
    name = hostname.lower().rstrip(".")
    if _as_ip(name) is not None:
        return name
    return str(_public_suffixes().privatesuffix(name) or name)


@dataclass(frozen=True)
class AddressRules:
    """Judges addresses.

    Attributes:
        private_hosts: host names (or IP addresses) that may lead to private addresses, lower case.
    """

    private_hosts: frozenset[str] = field(default_factory=frozenset)

    def check_url(self, url: str, *, behind_proxy: bool = False) -> SplitResult:
        """Judges an address by what it says.

        Args:
            url: of a photo, or where a redirect leads.
            behind_proxy: a proxy will look the name up, so that the name is all there is to judge.

        Returns:
            Its parts.

        Raises:
            PhotoError: `bad_address` or `forbidden_address`.
        """
        try:
            parts = urlsplit(url)
            host = ascii_host(parts)
            _ = parts.port
        except ValueError as error:
            raise PhotoError(Status.BAD_ADDRESS, f"{url!r}: {error}") from error
        if len(url) > _MAX_URL_LETTERS:
            detail = f"{url[:80]!r}…: {len(url)} letters, at most {_MAX_URL_LETTERS} are asked for"
            raise PhotoError(Status.BAD_ADDRESS, detail)
        if parts.scheme not in ("http", "https"):
            raise PhotoError(Status.BAD_ADDRESS, f"{url!r}: not an http(s) address")
        if not host or any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
            raise PhotoError(Status.BAD_ADDRESS, f"{url!r}: no host, or blanks in it")
        if parts.username is not None:
            raise PhotoError(Status.BAD_ADDRESS, f"{parts.hostname}: credentials in the address")
        literal = _as_ip(host)
        if literal is None and not _NAME.fullmatch(host):
            raise PhotoError(Status.BAD_ADDRESS, f"{url!r}: {host!r} is no host name")
        if host in self.private_hosts:
            return parts
        if literal is not None and not is_public(literal):
            raise _forbidden(host, host)
        if behind_proxy and literal is None and ("." not in host or _is_internal(host)):
            raise _forbidden(host, host)
        return parts

    def allows(self, host: str, ip_text: str) -> bool:
        """Whether a connection that a host's name led to may be opened.

        Args:
            host: the name that was looked up.
            ip_text: what it led to.
        """
        if host in self.private_hosts:
            return True
        ip = _as_ip(ip_text.split("%", 1)[0])
        return ip is not None and is_public(ip)

    def refusal(self, host: str, ip_text: str) -> PhotoError:
        """The error for an address that `allows` turned down."""
        return _forbidden(host, ip_text)


def is_public(ip: _IpAddress) -> bool:
    """Whether an address lies in the open internet; IPv4 inside IPv6 is judged as IPv4."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        # Beside it lie translated, compatible and site-local addresses that Python calls global.
        if ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast


def ascii_host(parts: SplitResult) -> str:
    """The host of an address as it is looked up: lower case, IDNA, without a final dot.

    Raises:
        ValueError: there is no such form.
    """
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode().lower()
    return host.rstrip(".")


def _as_ip(host: str) -> _IpAddress | None:
    """An IP address in any notation that resolvers take: also 127.1, 0x7f.1, 0177.0.0.1."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _is_internal(host: str) -> bool:
    return any(host == ending or host.endswith("." + ending) for ending in _INTERNAL_ENDINGS)


def _forbidden(host: str, ip_text: str) -> PhotoError:
    led = "" if host == ip_text else f" leads to {ip_text}, which"
    return PhotoError(
        Status.FORBIDDEN_ADDRESS,
        f"{host}{led} is no public address; a host of your own goes into fetch.private_hosts",
    )
