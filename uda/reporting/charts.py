"""A line chart as SVG inside of a page. Colours are the page's, by class: dark and light are its business."""

import math
from collections.abc import Callable, Sequence
from html import escape

from uda.reporting.curves import Line, Point

MAX_LINES = 8  # that can be told apart in one chart
_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _FOOT = 44, 14, 10, 40  # margins
_MAX_X_TICKS, _MAX_Y_TICKS = 5, 6

Scale = Callable[[float], float]


def chart(lines: Sequence[Line], title: str, x_label: str, percent: bool, bars: bool, logarithmic: bool) -> str:
    """The chart with its legend. bars: an interval at each point in place of a band along the line.

    percent: y values are shares. logarithmic: the x axis.
    """
    points = [point for line in lines for point in line.points]
    across, x_ticks = _across(sorted({point.x for point in points}), logarithmic)
    up, y_ticks = _up([end for point in points for end in (point.low, point.high)])
    parts = [_grid(y_ticks, up, percent), _foot(x_ticks, across, x_label)]
    if bars:
        parts += [_bars(line.points, number, len(lines), across, up) for number, line in enumerate(lines)]
    else:
        parts += [_band(line.points, number, across, up) for number, line in enumerate(lines)]
    parts += [_line(line.points, number, across, up) for number, line in enumerate(lines)]
    legend = "".join(
        f"<li><svg viewBox='0 0 24 10' aria-hidden='true'><path class='line c{number}' d='M0 5H24'></path></svg>"
        f"<span>{escape(line.name)}</span></li>"
        for number, line in enumerate(lines)
    )
    name = escape(title)
    picture = f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='{name}'>{''.join(parts)}</svg>"
    return f"<figure class='card'><figcaption>{name}</figcaption>{picture}<ul class='legend'>{legend}</ul></figure>"


def _across(values: Sequence[float], logarithmic: bool) -> tuple[Scale, list[float]]:
    """The x scale and its ticks; of a logarithmic one at the values themselves, where they stand apart enough."""
    width = _WIDTH - _LEFT - _RIGHT
    if not logarithmic:
        top = values[-1] or 1.0
        step = nice_step(top, _MAX_X_TICKS)
        return lambda x: _LEFT + width * x / top, [step * number for number in range(math.floor(top / step) + 1)]
    low, high = math.log(max(values[0], 1)), math.log(max(values[-1], 1))

    def scale(x: float) -> float:
        return _LEFT + width * (0.04 + 0.92 * (math.log(max(x, 1)) - low) / ((high - low) or 1))

    ticks: list[float] = []
    for value in values:
        if not ticks or scale(value) - scale(ticks[-1]) > 34:
            ticks.append(value)
    return scale, ticks


def _up(ends: Sequence[float]) -> tuple[Scale, list[float]]:
    """The y scale over all intervals, from tick to tick."""
    low, high = min(ends), max(ends)
    step = nice_step((high - low) or abs(high) / 10 or 0.1, _MAX_Y_TICKS)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    height = _HEIGHT - _TOP - _FOOT
    return (
        lambda y: _TOP + height * (1 - (y / step - first) / (last - first)),
        [step * number for number in range(first, last + 1)],
    )


def nice_step(span: float, most: int) -> float:
    """The least of 1, 2 and 5 times a power of ten that parts the span into at most so many."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= most * (1 + 1e-9))


def _grid(ticks: Sequence[float], up: Scale, percent: bool) -> str:
    scale = 100 if percent else 1
    return "".join(
        f"<path class='axis' d='M{_LEFT} {up(tick):.1f}H{_WIDTH - _RIGHT}'></path>"
        f"<text x='{_LEFT - 6}' y='{up(tick) + 4:.1f}' text-anchor='end'>{_number(scale * tick)}</text>"
        for tick in ticks
    )


def _foot(ticks: Sequence[float], across: Scale, label: str) -> str:
    low = _HEIGHT - _FOOT
    marks = "".join(
        f"<text x='{across(tick):.1f}' y='{low + 15}' text-anchor='middle'>{_number(tick)}</text>" for tick in ticks
    )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return f"{marks}<text x='{middle:.1f}' y='{_HEIGHT - 6}' text-anchor='middle'>{escape(label)}</text>"


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1_000:,.0f}k"
    return f"{value:.6g}".replace("-", "−")


def _bars(points: Sequence[Point], number: int, num_lines: int, across: Scale, up: Scale) -> str:
    """An interval at each point, a little aside where another line has one at the same place."""
    aside = 4 * (number - (num_lines - 1) / 2)
    ends = [(across(point.x) + aside, up(point.low), up(point.high)) for point in points if point.low < point.high]
    return "".join(f"<path class='bar c{number}' d='M{x:.1f} {low:.1f}V{high:.1f}'></path>" for x, low, high in ends)


def _band(points: Sequence[Point], number: int, across: Scale, up: Scale) -> str:
    if len(points) < 2 or all(point.low == point.high for point in points):
        return ""
    there = [f"{across(point.x):.1f} {up(point.high):.1f}" for point in points]
    back = [f"{across(point.x):.1f} {up(point.low):.1f}" for point in reversed(points)]
    return f"<path class='band c{number}' d='M{'L'.join([*there, *back])}Z'></path>"


def _line(points: Sequence[Point], number: int, across: Scale, up: Scale) -> str:
    """The line and a dot at each point, which says its numbers."""
    places = "L".join(f"{across(point.x):.1f} {up(point.y):.1f}" for point in points)
    dots = "".join(
        f"<circle class='c{number}' cx='{across(point.x):.1f}' cy='{up(point.y):.1f}' r='2.5'>"
        f"<title>{escape(point.note)}</title></circle>"
        for point in points
    )
    return f"<path class='line c{number}' d='M{places}'></path>{dots}"
