"""``growth.png``: a line per quantity on logarithmic axes, whose slope is the exponent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.performance.growth import Points, exponent
from spice.reporting.figures import ACCENT, INK, MUTED

COLOURS = dict(zip(("n", "d", "k"), (INK, ACCENT, MUTED), strict=True))


def draw(found: dict[str, Any], path: Path) -> None:
    """The three panels."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    _line(panels[0], found["tokens"], ("seconds", 1e3), 1, "tokens")
    panels[0].set(xlabel="tokens of a row", ylabel="extraction, milliseconds per row")
    base = ", ".join(f"{name} = {found['base'][name]:,}" for name in COLOURS)
    for panel, what in zip(panels[1:], (("seconds", 1), ("peak", 2**-20)), strict=True):
        for name in COLOURS:
            _line(panel, found[name], what, found["base"][name], name)
        panel.set(xlabel=f"times {base}")
    panels[1].set(ylabel="greedy, seconds")
    panels[2].set(ylabel="greedy, MiB above the libraries")
    for panel in panels:
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_major_formatter("{x:,g}")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path, dpi=150)


def _line(panel: Any, points: Points, what: tuple[str, float], unit: float, name: str) -> None:
    """One quantity's points, in units of its base, and the exponent of their fit."""
    key, scale = what
    x, y = [p["at"] / unit for p in points], [p[key] * scale for p in points]
    label = f"{name}, exponent {exponent(points, key):.2f}"
    panel.plot(x, y, "o-", color=COLOURS.get(name, INK), label=label)
