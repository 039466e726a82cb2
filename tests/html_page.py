"""What a page says, read by a parser of its own: elements, text, tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class Element:
    """An element with all the text inside it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    inside: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name) or ""


@dataclass
class Page:
    """A parsed page."""

    elements: list[Element] = field(default_factory=list)

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]

    @property
    def text(self) -> str:
        """What stands above and in the main part."""
        return " ".join(" ".join(part.text for part in self.all("header", "main")).split())

    def table(self, caption: str) -> list[list[str]]:
        """The cells of the table's body."""
        rows: list[list[str]] = []
        of_table: str | None = None
        for element in self.elements:
            if element.tag == "caption":
                of_table = element.text.strip()
            elif of_table == caption and "tbody" in element.inside:
                if element.tag == "tr":
                    rows.append([])
                elif element.tag in ("th", "td"):
                    rows[-1].append(" ".join(element.text.split()))
        return rows

    def counts(self, caption: str) -> dict[str, int]:
        """A table of two columns: names and numbers."""
        return {name: int(count.replace(",", "")) for name, count in self.table(caption)}

    def numbers(self) -> dict[str, int]:
        """The key numbers."""
        names = [element.text for element in self.all("dt")]
        values = [int(element.text.replace(",", "")) for element in self.all("dd")]
        return dict(zip(names, values, strict=True))


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        inside = tuple(element.tag for element in self._open)
        element = Element(tag, dict(attrs), inside=inside)
        self.page.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        inside = tuple(element.tag for element in self._open)
        self.page.elements.append(Element(tag, dict(attrs), inside=inside))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


def parse_page(text: str) -> Page:
    """Reads a page; elements that are not closed in order are a failure."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert not parser._open
    return parser.page
