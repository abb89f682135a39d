"""Figure 1b: how gains decay along a run, with the penalty and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import spice
from experiments.paper import figures
from experiments.paper.gradients import alphas, samples
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table

SWEEPS = ("table1",)
DRAWS, PICKS = 5, 100
WAYS = {"Fisher (λ = 0)": 0.0, "SPICE (λ = 0.1)": 0.1, "SPICE (λ = 1)": 1.0}


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """By α and way: gains by pick over the draws, and what they add up to."""
    drawn = samples(runs, DRAWS)
    found: dict[str, Any] = {}
    for name in alphas(drawn[0]):
        found[name] = {}
        for way, penalty in WAYS.items():
            gains = np.array([_gains(G, alphas(G)[name], penalty) for G in drawn])
            found[name][way] = {"gains": _bands(gains), "information": _bands(gains.cumsum(axis=1))}
    return {"alphas": found, "rows": len(drawn[0])}


def _gains(G: np.ndarray, alpha: float, penalty: float) -> list[float]:
    found = spice.select(G, PICKS, alpha=alpha, penalty=penalty)
    assert found.gains is not None
    return found.gains


def _bands(values: np.ndarray) -> list[dict[str, float]]:
    """Mean, smallest and largest by pick."""
    return [
        {"at": t + 1, "mean": round(float(column.mean()), 6), "low": round(float(column.min()), 6),
         "high": round(float(column.max()), 6)}
        for t, column in enumerate(values.T)
    ]  # fmt: skip


def table(facts: Mapping[str, Any]) -> Table:
    """Gains and information at some picks."""
    shown = [t for t in (1, 10, 30, 100) if t <= PICKS]
    lines = []
    for alpha, ways in facts["alphas"].items():
        for way, found in ways.items():
            cells = [_cell(found["gains"][t - 1]) for t in shown]
            lines.append(Line(f"{way}, {alpha}", [*cells, _cell(found["information"][-1])]))
    return Table(
        "Figure 1b: gains along a run",
        [*(f"Δ of pick {t}" for t in shown), f"F(S) after {PICKS}"],
        lines,
        footnotes=[
            f"Nats; {DRAWS} draws of {facts['rows']} rows of the pool; in brackets, and as bands, "
            "the smallest and the largest.",
            "The paper's figure has no numbers to be read. Where the curves lie on each other, the "
            "penalty changes no pick.",
        ],
        corner="",
        picture="gains.png",
    )


def _cell(point: Mapping[str, float]) -> Cell:
    return Cell(point["mean"], point["low"], point["high"], DRAWS, form=".3f")


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``gains.png``, of the published α."""
    ways = next(iter(facts["alphas"].values()))
    lines = {way: found["gains"] for way, found in ways.items()}
    figures.curves(lines, ("pick t", "Δ (nats)"), folder / "gains.png", marks=False)
