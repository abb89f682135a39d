"""Figures of a run and of a comparison, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spice.messages import shown

LONGEST = 40  # characters of a name beside its bar
INK, ACCENT, MUTED = "#26323a", "#c8553d", "#9fb3bd"


def draw_run(selection: Mapping[str, Any], report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what a selection has: its gains and conflicts if it is greedy, its sources always."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [sources(report["sources"], folder / "sources.png")]
    if selection["gains"]:
        drawn.append(gains(selection, folder / "gains.png"))
        drawn.append(conflicts(selection, folder / "conflicts.png"))
    return drawn


def gains(selection: Mapping[str, Any], path: Path) -> Path:
    """Decay of the marginal gain Δ_t beside each pick's gain on its own, and F(S) as it grows."""
    figure, (left, right) = _panels(2)
    steps = np.arange(1, selection["k"] + 1)
    left.plot(steps, selection["bases"], ".", color=MUTED, markersize=3, label="alone, Δ(∅)")
    mark = "o" if len(steps) == 1 else None  # a line needs two points
    left.plot(
        steps, selection["gains"], marker=mark, color=ACCENT, label="given the picks so far, Δ(S)"
    )
    left.set(xlabel="pick t", ylabel="gain (nats)", title="Marginal gain", ylim=(0, None))
    left.legend(frameon=False)
    right.plot([0, *steps], [0, *np.cumsum(selection["gains"])], color=INK)
    right.set(xlabel="pick t", ylabel="F(S) (nats)", title="Information", ylim=(0, None))
    return _save(figure, path)


def conflicts(selection: Mapping[str, Any], path: Path) -> Path:
    """Conflict c of each pick with the mean of those before, and its running mean."""
    figure, (axes,) = _panels(1)
    values = np.array(selection["conflicts"])
    steps = np.arange(1, len(values) + 1)
    axes.stairs(
        values, np.arange(len(values) + 1) + 0.5, fill=True, color=MUTED, label="of the pick"
    )
    axes.plot(steps, np.cumsum(values) / steps, color=ACCENT, label="mean so far")
    top = max(0.05, float(values.max(initial=0.0)) * 1.3)  # room for the legend
    axes.set(xlabel="pick t", ylabel="conflict c", title="Conflict along the run", ylim=(0, top))
    axes.legend(frameon=False)
    return _save(figure, path)


def sources(shares: Mapping[str, Mapping[str, float]], path: Path) -> Path:
    """Each source's share of the pool beside its share of the picks."""
    names = list(shares)
    figure, (axes,) = _panels(1, rows=2 * len(names))
    at = np.arange(len(names))
    axes.barh(at - 0.2, [100 * shares[n]["pool"] for n in names], 0.38, color=MUTED, label="pool")
    picked = [100 * shares[n]["picked"] for n in names]
    axes.barh(at + 0.2, picked, 0.38, color=ACCENT, label="picked")
    axes.set_yticks(at, map(_label, names), parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="share (%)", title="Sources")
    figure.legend(frameon=False, ncols=2, loc="outside lower right")
    return _save(figure, path)


def comparison(
    labels: Sequence[str], values: Sequence[float], errors: Sequence[float], path: Path
) -> Path:
    """Average scores with one standard error each, in the order of the table."""
    figure, (axes,) = _panels(1, rows=len(labels))
    at = np.arange(len(labels))
    bars = 100 * np.array(errors)
    axes.errorbar(100 * np.array(values), at, xerr=bars, fmt="o", color=ACCENT, capsize=3)
    axes.set_yticks(at, map(_label, labels), parse_math=False)
    axes.set_ylim(-0.5, len(labels) - 0.5)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#e5eaed")
    axes.set(xlabel="average score (%), ± one standard error", title="Selectors compared")
    return _save(figure, path)


def _label(name: str) -> str:
    text = shown(name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _panels(count: int, rows: int = 0) -> tuple[Figure, Any]:
    """``count`` panels side by side, high enough for ``rows`` labels one above the other."""
    figure = Figure(figsize=(4.8 * count, max(3.4, 1 + 0.25 * rows)), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    return path
