"""Figures 2c and 6: conflict, gain and ε, along one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import spice
from experiments.paper import figures
from experiments.paper.gradients import alphas, samples
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table

SWEEPS = ("table1",)
DRAWS, PICKS = 5, 200
PENALTIES = (0.0, 0.1, 1.0)
PUBLISHED = (-0.792, 0.901)  # of λ not told


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """By α and λ: rank correlations of c with Δ and |ε| over the picks; c by pick."""
    drawn = samples(runs, DRAWS)
    found: dict[str, Any] = {}
    for name in alphas(drawn[0]):
        found[name] = {}
        for penalty in PENALTIES:
            each = [_measured(G, alphas(G)[name], penalty) for G in drawn]
            conflict = np.array([one.pop("conflicts") for one in each])
            kinds = {kind: [one[kind] for one in each] for kind in each[0]}
            found[name][f"{penalty:g}"] = {
                **kinds,
                "conflict": np.round(conflict.mean(axis=0), 5).tolist(),
            }
    return {"alphas": found}


def _measured(G: np.ndarray, alpha: float, penalty: float) -> dict[str, Any]:
    run = spice.select(G, PICKS, alpha=alpha, penalty=penalty)
    gains, conflict = np.array(run.gains), np.array(run.conflicts)
    bases = np.log1p(alpha * np.square(G[run.indices]).sum(axis=1))
    varies = bool(np.ptp(conflict[1:]) > 0)

    def rank(values: np.ndarray) -> float | None:
        return float(spearmanr(conflict[1:], values[1:]).statistic) if varies else None

    return {
        "with gain": rank(gains),
        "with taken": rank(bases - gains),
        "mean": float(conflict.mean()),
        "conflicts": conflict,
    }


def table(facts: Mapping[str, Any]) -> Table:
    """Lines by α and λ."""
    lines = []
    for alpha, penalties in facts["alphas"].items():
        for penalty, found in penalties.items():
            cells = [
                _cell(found["with gain"], PUBLISHED[0]),
                _cell(found["with taken"], PUBLISHED[1]),
                _cell([100 * value for value in found["mean"]]),
            ]
            lines.append(Line(f"λ = {penalty}, {alpha}", cells))
    return Table(
        "Figures 2c and 6: conflict along a run",
        ["Spearman(c, Δ)", "Spearman(c, |ε|)", "mean conflict (%)"],
        lines,
        footnotes=[
            f"{PICKS} picks of each of {DRAWS} draws of rows; in brackets the smallest and the "
            "largest. – where no pick is in conflict.",
        ],
        corner="",
        picture="conflict.png",
    )


def _cell(values: Sequence[float | None], paper: float | None = None) -> Cell:
    known = [value for value in values if value is not None]
    if not known:
        return Cell(paper=paper, form=".3f")
    return Cell(float(np.mean(known)), min(known), max(known), len(known), paper, ".3f")


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``conflict.png``: c by pick, the mean of the draws, what it adds up to."""
    lines = {}
    for alpha, penalties in facts["alphas"].items():
        for penalty, found in penalties.items():
            total = np.cumsum(found["conflict"])
            lines[f"λ = {penalty}, {alpha}"] = [
                {"at": t + 1, "mean": float(v), "low": None} for t, v in enumerate(total)
            ]
    figures.curves(lines, ("pick t", "conflict so far, Σ c"), folder / "conflict.png", marks=False)
