"""Figure 2a: gradients in two dimensions, by conflict and by information."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from experiments.paper.gradients import conflicts, samples
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table

SWEEPS = ("table1",)


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Two principal components of 512 gradients, each row's conflict and base gain."""
    [G] = samples(runs, 1)
    centred = G - G.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    plane = left[:, :2] * values[:2]
    plane *= np.sign(plane[np.abs(plane).argmax(axis=0), (0, 1)])  # either sign is one
    found, bases = conflicts(G), np.log1p(np.square(G).sum(axis=1))
    return {
        "plane": np.round(plane, 4).tolist(),
        "conflict": np.round(found, 4).tolist(),
        "base": np.round(bases, 4).tolist(),
        "explained": [float(v) for v in values[:2] ** 2 / np.square(values).sum()],
        "spearman": float(spearmanr(found, bases).statistic) if found.any() else None,
    }


def table(facts: Mapping[str, Any]) -> Table:
    """What the picture shows, in numbers."""
    conflict = np.array(facts["conflict"])
    cells = [
        Cell(100 * facts["explained"][0]),
        Cell(100 * facts["explained"][1]),
        Cell(float(100 * (conflict > 0).mean())),
        Cell(facts["spearman"], form=".3f"),
    ]
    return Table(
        "Figure 2a: gradients in two dimensions",
        ["first component (%)", "second (%)", "rows with conflict (%)", "Spearman(c, Δ(∅))"],
        [Line(f"{len(conflict)} rows", cells)],
        footnotes=[
            "Conflict with the mean of all rows shown; Δ(∅) = log(1 + ‖g‖²), α = 1. The outermost "
            "hundredths of each component lie outside the picture.",
        ],
        corner="",
        picture="plane.png",
    )


def _most(values: np.ndarray) -> tuple[float, float]:
    """Where all but the outermost hundredths lie, with a margin."""
    low, high = np.quantile(values, [0.01, 0.99])
    margin = 0.1 * (high - low)
    return low - margin, high + margin


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``plane.png``: coloured by conflict, and by information."""
    x, y = np.array(facts["plane"]).T
    figure = Figure(figsize=(9.6, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    sides = (("conflict", "conflict c", "plasma"), ("base", "Δ(∅) (nats)", "viridis"))
    for axes, (key, label, colours) in zip(panels, sides, strict=True):
        values = np.array(facts[key])
        order = np.argsort(values)
        dots = axes.scatter(
            x[order], y[order], c=values[order], cmap=colours, s=14, edgecolors="none"
        )
        figure.colorbar(dots, ax=axes, label=label)
        axes.set(xlabel="first component", ylabel="second component")
        axes.set(xlim=_most(x), ylim=_most(y))
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "plane.png", dpi=150, metadata={"Software": None})
