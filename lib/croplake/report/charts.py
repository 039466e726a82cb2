"""Charts as inline SVG: bars and histograms, each with its figures as a table.

Lengths across are percentages and lengths down are pixels: nothing is scaled, so the text has its
size at any width. Colours come from the page's stylesheet, by class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree as ET

from markupsafe import Markup

MAX_BARS: Final = 40
"""Bars that are drawn; the table has all."""

_BAR_ROW_PX: Final = 40
_MAX_NAME_CHARS: Final = 36
PLOT_TOP_PX, PLOT_PX, AXIS_PX = 10, 160, 26
PLOT_LEFT: Final = 12.0
"""Percent of the width that the numbers at a histogram's side take."""


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart.

    Attributes:
        name: what it counts.
        values: one a series, drawn end to end.
        text: what stands at its right.
    """

    name: str
    values: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Bins:
    """Neighbouring intervals from below the first edge to above the last.

    Attributes:
        edges: a value at an edge lies in the bin right of it; n edges part n + 1 bins.
        texts: of each edge.
        ticks: places of the edges that the axis names.
    """

    edges: tuple[float, ...]
    texts: tuple[str, ...]
    ticks: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        """Each bin in words."""
        inner = [f"{left} to {right}" for left, right in pairwise(self.texts)]
        return [f"below {self.texts[0]}", *inner, f"{self.texts[-1]} and more"]


@dataclass(frozen=True)
class Chart:
    """A drawn chart and what it says.

    Attributes:
        title: what is counted by what.
        svg: the drawing, to be put into the page as it is.
        legend: where there are several series, their names by the class that draws them.
        columns: heads of the table.
        rows: of the table, the first cell names its row.
    """

    title: str
    svg: Markup
    legend: Mapping[str, str]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def draw_bars(
    key: str, title: str, bars: Sequence[Bar], *, what: str, series: tuple[str, ...]
) -> Chart:
    """Draws horizontal bars, the longest of which takes the whole width.

    Args:
        key: of this chart in its page.
        title: what is counted by what.
        bars: at least one, in the order they are drawn; of more than 40 only the first are.
        what: head of the names' column.
        series: names of the values of a bar.
    """
    shown = bars[:MAX_BARS]
    most = max(1, *(sum(bar.values) for bar in bars))
    text = f"{len(bars)} bars. {bars[0].name}: {bars[0].text}; {bars[-1].name}: {bars[-1].text}."
    if len(shown) < len(bars):
        text += f" The first {len(shown)} are drawn, the table has all."
    svg = svg_frame(key, title, text, len(shown) * _BAR_ROW_PX)
    for place, bar in enumerate(shown):
        top = place * _BAR_ROW_PX
        row = ET.SubElement(svg, "g")
        put_text(row, bar.name, x="0", y=top + 14, kind="name")
        put_text(row, bar.text, x="100%", y=top + 14, kind="value end")
        put_rect(row, "track", x=0, width=100, y=top + 20, height=8)
        left = 0.0
        for index, value in enumerate(bar.values):
            width = 100 * value / most
            if value:
                part = put_rect(row, f"series-{index}", x=left, width=width, y=top + 20, height=8)
                what_it_is = f", {series[index]}" if len(series) > 1 else ""
                ET.SubElement(part, "title").text = f"{bar.name}{what_it_is}: {value:,}"
            left += width
    several = len(series) > 1
    columns = (what, *series, *(("all",) if several else ()))
    rows = tuple(
        (
            bar.name,
            *(f"{value:,}" for value in bar.values),
            *((f"{sum(bar.values):,}",) if several else ()),
        )
        for bar in bars
    )
    legend = {f"series-{index}": name for index, name in enumerate(series)} if several else {}
    return Chart(title, as_markup(svg), legend, columns, rows)


def draw_counts(key: str, title: str, counts: Mapping[str, int], *, what: str, unit: str) -> Chart:
    """Draws a bar a name, the most first, each with its share of all.

    Args:
        key: of this chart in its page.
        title: what is counted by what.
        counts: name to count, at least one.
        what: head of the names' column.
        unit: head of the counts' column.
    """
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    bars = [Bar(name, (num,), f"{num:,} ({share(num, total)})") for name, num in ordered]
    return draw_bars(key, title, bars, what=what, series=(unit,))


def draw_histogram(
    key: str, title: str, bins: Bins, counts: Sequence[int], *, what: str, unit: str
) -> Chart:
    """Draws how often values lie in each bin.

    Args:
        key: of this chart in its page.
        title: what is counted by what.
        bins: the intervals; they are drawn equally wide.
        counts: one a bin.
        what: head of the bins' column.
        unit: head of the counts' column.
    """
    most = _round_up(max(counts))
    width = (100 - PLOT_LEFT) / len(counts)
    bottom = PLOT_TOP_PX + PLOT_PX
    names = bins.names
    fullest = max(range(len(counts)), key=lambda index: counts[index])
    text = (
        f"{sum(counts):,} {unit} in {len(counts)} bins; most of them, {counts[fullest]:,}, "
        f"are {names[fullest]}."
    )
    svg = svg_frame(key, title, text, bottom + AXIS_PX)
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * PLOT_PX
        ends = {"x1": f"{PLOT_LEFT}%", "x2": "100%", "y1": f"{y:g}", "y2": f"{y:g}"}
        ET.SubElement(svg, "line", {"class": "grid", **ends})
        put_text(svg, short_count(share * most), x=f"{PLOT_LEFT - 1.5}%", y=y + 4, kind="tick end")
    for index, count in enumerate(counts):
        height = PLOT_PX * count / most
        left = PLOT_LEFT + index * width
        if count:
            y = bottom - height
            bar = put_rect(svg, "series-0", x=left + 0.2, width=width - 0.4, y=y, height=height)
            ET.SubElement(bar, "title").text = f"{names[index]}: {count:,}"
    for tick in bins.ticks:
        x = f"{PLOT_LEFT + (tick + 1) * width:.2f}%"
        marks = {"x1": x, "x2": x, "y1": f"{bottom}", "y2": f"{bottom + 5}"}
        ET.SubElement(svg, "line", {"class": "axis", **marks})
        put_text(svg, bins.texts[tick], x=x, y=bottom + 19, kind="tick middle")
    rows = tuple((name, f"{count:,}") for name, count in zip(names, counts, strict=True))
    return Chart(title, as_markup(svg), {}, (what, unit), rows)


def share(part: int, whole: int) -> str:
    """A share in percent; of nothing it is a dash."""
    return f"{part / whole:.1%}" if whole else "–"


def short_count(number: float) -> str:
    """A count for a narrow place: 950, 1.5k, 14M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:g}"


def _round_up(number: int) -> int:
    """The next number of one digit and zeros, 2 at least."""
    step = int("1" + "0" * (len(str(number)) - 1))
    return max(2, -(-number // step) * step)


def svg_frame(key: str, title: str, text: str, height: int) -> ET.Element:
    """A drawing as wide as its place, named and described for a screen reader."""
    svg = ET.Element(
        "svg",
        {
            "class": "chart",
            "role": "img",
            "width": "100%",
            "height": str(height),
            "aria-labelledby": f"{key}-title",
            "aria-describedby": f"{key}-text",
        },
    )
    ET.SubElement(svg, "title", {"id": f"{key}-title"}).text = title
    ET.SubElement(svg, "desc", {"id": f"{key}-text"}).text = text
    return svg


def put_text(parent: ET.Element, text: str, *, x: str, y: float, kind: str) -> None:
    """Writes a text; a long one is cut, and whole in its title."""
    element = ET.SubElement(parent, "text", {"class": kind, "x": x, "y": f"{y:g}"})
    element.text = text
    if len(text) > _MAX_NAME_CHARS:
        element.text = text[: _MAX_NAME_CHARS - 1] + "…"
        ET.SubElement(element, "title").text = text


def put_rect(
    parent: ET.Element, kind: str, *, x: float, width: float, y: float, height: float
) -> ET.Element:
    """Draws a rectangle: percent across, pixels down."""
    across = {"x": f"{x:.2f}%", "width": f"{width:.2f}%"}
    down = {"y": f"{y:.1f}", "height": f"{height:.1f}"}
    return ET.SubElement(parent, "rect", {"class": kind, **across, **down})


def put_line(
    parent: ET.Element, kind: str, *, x: tuple[float, float], y: tuple[float, float]
) -> ET.Element:
    """Draws a line from its first place to its second: percent across, pixels down."""
    ends = {"x1": f"{x[0]:.2f}%", "x2": f"{x[1]:.2f}%", "y1": f"{y[0]:.1f}", "y2": f"{y[1]:.1f}"}
    return ET.SubElement(parent, "line", {"class": kind, **ends})


def as_markup(svg: ET.Element) -> Markup:
    """A drawing as a template takes it."""
    return Markup(ET.tostring(svg, encoding="unicode"))  # noqa: S704  # it has escaped all text
