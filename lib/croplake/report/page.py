"""The frame of every page: one file that loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from croplake import __version__
from croplake.report.credit import licence_name, readable, safe_link

CROPS_PER_PAGE: Final = 12
"""Crops of a gallery that are seen at once, where the page's script runs."""

_LOADER: Final = PackageLoader("croplake.report")


def render(template: str, **values: object) -> str:
    """Fills in a template that extends `page.html`; what comes from data is escaped.

    Args:
        template: its name.
        values: what it names.

    Returns:
        The page. Its policy lets it show embedded pictures, and use the stylesheet and the script
        that are written into it; it can load and send nothing.
    """
    return _ENVIRONMENT.get_template(template).render(**values)


def _source(name: str) -> Markup:
    """A file of ours, as it is."""
    return Markup(_LOADER.get_source(_ENVIRONMENT, name)[0].strip())  # noqa: S704


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _environment() -> Environment:
    made = Environment(
        loader=_LOADER,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "count": "{:,}".format,
        "licence": licence_name,
        "link": safe_link,
        "readable": readable,
    }
    made.globals |= {"croplake_version": __version__, "page_size": CROPS_PER_PAGE}
    return made


_ENVIRONMENT: Final = _environment()
_STYLE: Final = _source("page.css")
_SCRIPT: Final = _source("page.js")
_ENVIRONMENT.globals |= {
    "style": _STYLE,
    "script": _SCRIPT,
    "policy": (
        f"default-src 'none'; img-src data:; style-src {_digest(_STYLE)}; "
        f"script-src {_digest(_SCRIPT)}; base-uri 'none'; form-action 'none'"
    ),
}
