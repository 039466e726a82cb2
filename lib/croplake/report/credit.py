"""Whose a photo is: licences by their short names, links that only lead to the web."""

from __future__ import annotations

import re
from typing import Final

NO_LICENCE: Final = "licence not given"

_CREATIVE_COMMONS: Final = re.compile(
    r"https?://(?:www\.)?creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)"
    r"(?:/(\d\.\d))?(?:/([a-z]{2,3}))?(?:/(?:deed|legalcode)(?:\.[a-z_]+)?)?/?",
    re.IGNORECASE,
)
_PUBLIC_DOMAIN: Final = {"zero": "CC0", "mark": "Public Domain Mark"}
_WEB_ADDRESS: Final = re.compile(r"https?://[^\s\x00-\x20\x7f<>\"'\\`]+", re.IGNORECASE)


def readable(text: str | None) -> str | None:
    """A name or a title without space around it.

    Args:
        text: as the catalog has it.

    Returns:
        The text; None where nothing of it can be seen.
    """
    kept = (text or "").strip()
    is_seen = any(sign.isprintable() and not sign.isspace() for sign in kept)
    return kept if is_seen else None


def licence_name(address: str | None) -> str:
    """A licence as people call it: `https://creativecommons.org/licenses/by/2.0/` is CC BY 2.0.

    Args:
        address: as the catalog has it.

    Returns:
        The short name; the address itself where it is no Creative Commons licence's.
    """
    if not address or not address.strip():
        return NO_LICENCE
    found = _CREATIVE_COMMONS.fullmatch(address.strip())
    if found is None:
        return address.strip()
    kind, code, version, country = found.groups()
    name = f"CC {code.upper()}" if kind.lower() == "licenses" else _PUBLIC_DOMAIN.get(code.lower())
    if name is None:
        return address.strip()
    return " ".join([name, *(part.upper() for part in (version, country) if part)])


def safe_link(address: str | None) -> str | None:
    """An address that may be linked to: the web's, without a space or a quote.

    Args:
        address: as the catalog has it; anybody may have written it.

    Returns:
        The address; None where it is anything else, such as `javascript:…` or no address at all.
    """
    return address if address and _WEB_ADDRESS.fullmatch(address) else None
