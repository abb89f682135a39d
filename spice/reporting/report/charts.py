"""Where the lines, bars and ticks of a report's charts lie; the templates draw them.

Coordinates are SVG's: x from the left, y from the top, in a drawing of :data:`WIDTH` units that is
as wide on a phone as on a desk. Colours are numbers of a setting (``colour``), or names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WIDTH = 440
LEFT, RIGHT, TOP, BOTTOM = 50, 16, 26, 42  # margins of a chart with two axes
HEIGHT = 262
ROW, TRACK = 44, 16  # of a chart of rows: a label, and below it what is drawn
POINTS = 160  # of a line; longer ones are thinned out
COLOURS = 8


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about so many."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Axes:
    """Where numbers lie between two axes: from ``x_low`` to ``x_high``, and from 0 to ``top``."""

    x_low: float
    x_high: float
    top: float

    def x(self, value: float) -> float:
        """From the left."""
        share = (value - self.x_low) / ((self.x_high - self.x_low) or 1.0)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)

    def y(self, value: float) -> float:
        """From the top."""
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / self.top), 1)

    def path(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """The points of a line."""
        return " ".join(f"{self.x(a)},{self.y(b)}" for a, b in zip(xs, ys, strict=True))


def line_chart(series: Sequence[dict[str, Any]], x_label: str, y_label: str) -> dict[str, Any]:
    """Lines with bands: each has ``name``, ``colour``, ``x``, ``y`` and maybe ``low``, ``high``.

    Its ``href`` is the file it comes from. One with ``area`` is filled down to the axis. The
    vertical axis starts at 0.
    """
    highest = max((max(one.get("high", one["y"])) for one in series), default=1.0) or 1.0
    x_low, x_high = min(one["x"][0] for one in series), max(one["x"][-1] for one in series)
    axes = Axes(x_low, x_high, highest * 1.06)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "series": [_line(axes, thinned(one)) for one in series],
        "x_label": x_label,
        "y_label": y_label,
        "x_ticks": [(axes.x(v), told(v)) for v in ticks(x_low, x_high)],
        "y_ticks": [(axes.y(v), told(v)) for v in ticks(0.0, axes.top)],
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
    }


def _line(axes: Axes, one: dict[str, Any]) -> dict[str, Any]:
    """The points of a line and of what is filled; a line of one point is a dot."""
    xs = one["x"]
    line = {name: one[name] for name in ("name", "colour", "href")}
    line["line"] = axes.path(xs, one["y"])
    if "high" in one:
        back = axes.path(xs[::-1], one["low"][::-1])
        line["band"] = f"{axes.path(xs, one['high'])} {back}"
    if one.get("area"):
        line["band"] = f"{line['line']} {axes.path([xs[-1], xs[0]], [0.0, 0.0])}"
    if len(xs) == 1:
        line["dot"] = (axes.x(xs[0]), axes.y(one["y"][0]))
    return line


def thinned(one: dict[str, Any]) -> dict[str, Any]:
    """At most :data:`POINTS` of a line's points, its ends among them."""
    if len(one["x"]) <= POINTS:
        return one
    kept = np.unique(np.linspace(0, len(one["x"]) - 1, POINTS).astype(int)).tolist()
    columns = [name for name in ("x", "y", "low", "high") if name in one]
    return one | {name: [one[name][i] for i in kept] for name in columns}


def row_chart(
    rows: Sequence[dict[str, Any]],
    label: str,
    low: float,
    high: float,
    log: bool = False,
    unit: str = "",
) -> dict[str, Any]:
    """Rows with a ``label``, a ``note`` and ``marks`` on one axis from ``low`` to ``high``.

    A mark is a ``bar`` or a ``range`` from ``low`` to ``high``, or a ``dot`` or a ``tick`` at
    ``at``, each with a ``colour``, a ``title`` that is told when it is pointed at, and as ``href``
    the file it comes from. Dots of a row lie a little below each other. With ``log`` the axis is
    logarithmic.
    """
    wide = WIDTH - 2 * RIGHT

    def place(value: float) -> float:
        ends = [math.log(v) if log else v for v in (low, high, max(value, low) if log else value)]
        share = (ends[2] - ends[0]) / ((ends[1] - ends[0]) or 1.0)
        return round(RIGHT + wide * min(max(share, 0.0), 1.0), 1)

    bottom = len(rows) * ROW + 2
    return {
        "width": WIDTH,
        "height": bottom + 36,
        "rows": [_row(row, number * ROW + 20, place) for number, row in enumerate(rows)],
        "track": TRACK,
        "label": label,
        "bottom": bottom,
        "left": RIGHT,
        "right": WIDTH - RIGHT,
        "ticks": [(place(v), f"{told(v)}{unit}")
                  for v in (_powers(low, high) if log else ticks(low, high))],
    }  # fmt: skip


def _row(row: dict[str, Any], top: float, place: Callable[[float], float]) -> dict[str, Any]:
    """A row's label and the places of its marks, the dots a little below each other."""
    middle, dots = top + TRACK / 2, [mark for mark in row["marks"] if mark["kind"] == "dot"]
    step = min(5.0, (TRACK - 4) / max(len(dots) - 1, 1))
    drawn = []
    for mark in row["marks"]:
        ends = {f"x_{end}": place(mark[end]) for end in ("low", "high", "at") if end in mark}
        below = step * (dots.index(mark) - (len(dots) - 1) / 2) if mark in dots else 0.0
        drawn.append({**mark, **ends, "y": round(middle + below, 1)})
    return {
        **row,
        "note": row.get("note", ""),
        "href": row.get("href"),
        "marks": drawn,
        "y": top,
        "middle": middle,
    }


def _powers(low: float, high: float) -> list[float]:
    """1, 10, 100 … and, where these are few, 2, 5, 20, 50 … between two numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
    every = [step * 10.0**power for power in powers for step in steps]
    return [value for value in every if low <= value <= high]


def heat_map(
    names: Sequence[str], values: Sequence[Sequence[float]], hrefs: Sequence[str | None]
) -> dict[str, Any]:
    """A square of shares in [0, 1], each with its line's file; numbers where there is room."""
    n = len(names)
    side = min(56.0, (WIDTH - 34) / n)
    cells = [
        {
            "x": round(30 + j * side, 1),
            "y": round(20 + i * side, 1),
            "value": round(values[i][j], 3),
            "text": f"{values[i][j]:.2f}".removeprefix("0") if n <= 14 else "",
            "title": f"{names[i]}  ∩  {names[j]}: {values[i][j]:.3f}",
            "href": hrefs[i],
        }
        for i in range(n)
        for j in range(n)
    ]
    every = 1 if n <= 20 else 5
    heads = [(round((i + 0.5) * side, 1), str(i + 1)) for i in range(n) if i % every == 0]
    drawn = {"width": WIDTH, "height": round(24 + n * side), "side": round(side - 1, 1)}
    return {**drawn, "cells": cells, "heads": heads, "names": list(names)}


def told(value: float) -> str:
    """A number as it stands at a tick."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
