"""Figure 2b: do gains decay faster among rows in conflict?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import spice
from experiments.figure1b.report import _bands
from experiments.paper import figures
from experiments.paper.gradients import SAMPLE, alphas, conflicts, samples
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table

SWEEPS = ("table1",)
DRAWS, SHARE = 5, 0.2
GROUPS = ("least conflict", "most conflict")


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """By α and group: gains by pick, λ = 0, and when they are half of the first."""
    drawn = samples(runs, DRAWS)
    size = round(SHARE * SAMPLE)
    found: dict[str, Any] = {}
    for name in alphas(drawn[0]):
        groups: dict[str, list[list[float]]] = {group: [] for group in GROUPS}
        for G in drawn:
            cosines = -_towards(G)
            order = np.argsort(cosines, kind="stable")
            for group, rows in zip(GROUPS, (order[:size], order[-size:]), strict=True):
                gains = spice.select(G[rows], size, alpha=alphas(G)[name], penalty=0.0).gains
                assert gains is not None
                groups[group].append(gains)
        found[name] = {
            group: {
                "gains": _bands(np.array([np.array(g) / g[0] for g in gains])),
                "half": [next((t for t, v in enumerate(g) if v <= g[0] / 2), size) for g in gains],
            }
            for group, gains in groups.items()
        }
    shares = [float((conflicts(G) > 0).mean()) for G in drawn]
    return {"alphas": found, "conflicting": shares}


def _towards(G: np.ndarray) -> np.ndarray:
    """cos(g, ḡ), n."""
    mean = G.mean(axis=0)
    return G @ mean / (np.linalg.norm(G, axis=1) * np.linalg.norm(mean))


def table(facts: Mapping[str, Any]) -> Table:
    """The pick from which a gain is at most half of the first."""
    lines = []
    for alpha, groups in facts["alphas"].items():
        for group, found in groups.items():
            half = found["half"]
            cell = Cell(float(np.mean(half)), min(half), max(half), len(half))
            lines.append(Line(f"{group}, {alpha}", [cell]))
    share = float(100 * np.mean(facts["conflicting"]))
    return Table(
        "Figure 2b: decay of gains by conflict",
        ["picks until half of the first gain"],
        lines,
        footnotes=[
            f"A fifth of {SAMPLE} rows each, by the cosine with their mean ({share:.1f} % of rows "
            f"are in conflict at all); {DRAWS} draws, in brackets the smallest and the largest. "
            "The paper has 10 to 30 picks.",
        ],
        corner="",
        picture="decay.png",
    )


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``decay.png``: gains over the first."""
    lines = {
        f"{group}, {alpha}": found["gains"]
        for alpha, groups in facts["alphas"].items()
        for group, found in groups.items()
    }
    figures.curves(lines, ("pick t", "Δ over the first pick's"), folder / "decay.png", marks=False)
