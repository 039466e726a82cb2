"""Charts of lines as inline SVG: curves over epochs, and what a probability is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree as ET

from croplake.evaluation.metrics import Calibration
from croplake.report.charts import (
    AXIS_PX,
    PLOT_LEFT,
    PLOT_PX,
    PLOT_TOP_PX,
    Chart,
    as_markup,
    put_line,
    put_rect,
    put_text,
    svg_frame,
)

_BOTTOM_PX: Final = PLOT_TOP_PX + PLOT_PX
_RIGHT: Final = 6.0
"""Percent of the width that the last tick's text may take."""
_MAX_DOTS: Final = 25
_MAX_TICKS: Final = 8
_ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


def draw_lines(
    key: str,
    title: str,
    series: Mapping[str, Mapping[int, float]],
    *,
    what: str,
    in_words: Callable[[float], str],
    top: float | None = None,
    marks: Sequence[int] = (),
) -> Chart:
    """Draws curves from 0 up.

    Args:
        key: of this chart in its page.
        title: what is shown by what.
        series: name to value by place, such as epoch; values that are no number are left out. At
            least one value of all is a number.
        what: head of the places' column.
        in_words: a value as text.
        top: of the axis; None is a round number above all values.
        marks: places before which a line is drawn down, such as where a phase begins.
    """
    lines = {
        name: {place: value for place, value in sorted(points.items()) if math.isfinite(value)}
        for name, points in series.items()
    }
    places = sorted({place for points in lines.values() for place in points})
    top = top or _round_up(max(value for points in lines.values() for value in points.values()))
    ends = [
        f"{name}: {in_words(next(iter(points.values())))} at first, "
        f"{in_words([*points.values()][-1])} at last"
        for name, points in lines.items()
        if points
    ]
    svg = svg_frame(key, title, f"{len(places)} {what}s. {'; '.join(ends)}.", _BOTTOM_PX + AXIS_PX)
    _draw_grid(svg, top, in_words)

    def across(place: float) -> float:
        span = places[-1] - places[0]
        share = (place - places[0]) / span if span else 0.5
        return PLOT_LEFT + share * (100 - PLOT_LEFT - _RIGHT)

    for mark in marks:
        x = across(mark - 0.5)
        put_line(svg, "axis", x=(x, x), y=(PLOT_TOP_PX, _BOTTOM_PX))
    step = _round_up(math.ceil(len(places) / _MAX_TICKS))
    for place in (place for place in places if place % step == 0):
        put_text(svg, str(place), x=f"{across(place):.2f}%", y=_BOTTOM_PX + 19, kind="tick middle")
    for index, (name, points) in enumerate(lines.items()):
        dots = [(across(place), _down(value, top)) for place, value in points.items()]
        for (x1, y1), (x2, y2) in pairwise(dots):
            put_line(svg, f"stroke-{index}", x=(x1, x2), y=(y1, y2))
        # The dots, full or hollow, tell lines apart where colours do not.
        shown = [*zip(dots, points.items(), strict=True)][:: math.ceil(len(places) / _MAX_DOTS)]
        for (x, y), (place, value) in shown:
            _put_dot(svg, f"dot-{index}", x, y, f"{name}, {what} {place}: {in_words(value)}")
    rows = tuple(
        (str(place), *(_cell(points.get(place), in_words) for points in lines.values()))
        for place in places
    )
    legend = {f"dot-{index}": name for index, name in enumerate(lines)}
    return Chart(title, as_markup(svg), legend, (what, *lines), rows)


def draw_reliability(key: str, title: str, calibration: Calibration) -> Chart:
    """Draws how often guesses of a probability are right, beside the line where both are equal.

    Args:
        key: of this chart in its page.
        title: what is shown by what.
        calibration: of the best guess's probability.
    """
    text = (
        f"Expected calibration error {calibration.ece:.4f}. Bars above the line are of guesses "
        "that are right more often than their probability says, bars below it less often."
    )
    svg = svg_frame(key, title, text, _BOTTOM_PX + AXIS_PX)
    _draw_grid(svg, 1.0, "{:.0%}".format)
    width = (100 - PLOT_LEFT - _RIGHT) / len(calibration.counts)
    rows = []
    for place, name in enumerate(calibration.bin_names):
        count = int(calibration.counts[place])
        confidence, accuracy = calibration.confidence[place], calibration.accuracy[place]
        left = PLOT_LEFT + place * width
        if count:
            y = _down(accuracy, 1.0)
            bar = put_rect(
                svg, "series-0", x=left + 0.2, width=width - 0.4, y=y, height=_BOTTOM_PX - y
            )
            said = f"{name}: {accuracy:.1%} of {count:,} are right"
            ET.SubElement(bar, "title").text = said
        shares = [_cell(float(value), "{:.1%}".format) for value in (confidence, accuracy)]
        rows.append((name, f"{count:,}", *shares))
    put_line(svg, "stroke-1", x=(PLOT_LEFT, 100 - _RIGHT), y=(_BOTTOM_PX, PLOT_TOP_PX))
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x = f"{PLOT_LEFT + share * (100 - PLOT_LEFT - _RIGHT):.2f}%"
        put_text(svg, f"{share:.0%}", x=x, y=_BOTTOM_PX + 19, kind="tick middle")
    columns = ("probability of the best guess", "examples", "mean probability", "right")
    legend = {"series-0": "share that is right", "stroke-1": "what their probability says"}
    return Chart(title, as_markup(svg), legend, columns, tuple(rows))


def _draw_grid(svg: ET.Element, top: float, in_words: Callable[[float], str]) -> None:
    for share in (0.0, 0.5, 1.0):
        y = _down(share * top, top)
        put_line(svg, "grid", x=(PLOT_LEFT, 100), y=(y, y))
        text = in_words(share * top)
        put_text(svg, text, x=f"{PLOT_LEFT - 1.5}%", y=y + 4, kind="tick end")


def _put_dot(svg: ET.Element, kind: str, x: float, y: float, text: str) -> None:
    place = {"class": kind, "cx": f"{x:.2f}%", "cy": f"{y:.1f}", "r": "3"}
    ET.SubElement(ET.SubElement(svg, "circle", place), "title").text = text


def _down(value: float, top: float) -> float:
    """Where a value lies; one beyond the axis lies at its end."""
    return _BOTTOM_PX - PLOT_PX * min(max(value / top, 0.0), 1.0)


def _cell(value: float | None, in_words: Callable[[float], str]) -> str:
    return "–" if value is None or math.isnan(value) else in_words(value)


def _round_up(value: float) -> float:
    """The next round number, 1 for nothing but zeros."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in _ROUND if power * step >= value * (1 - 1e-9))
