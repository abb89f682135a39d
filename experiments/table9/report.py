"""Table 9: where SPICE+ stops, and what it scores there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper import figures
from experiments.paper.published import FOOTNOTES, TABLE9
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table
from spice.reporting.differences import estimate

SWEEPS = ("table9",)


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """By ω: the share that was chosen, the score, seconds of selection and training."""
    found = {}
    for ratio in sorted({run.label["selector.stop_ratio"] for run in runs}, key=float):
        each = [run for run in runs if run.label["selector.stop_ratio"] == ratio]
        shares = [run.results["k"] / run.results["n"] for run in each]
        seconds = [run.selection_seconds + run.training_seconds for run in each]
        found[ratio] = {
            "share": float(np.mean(shares)),
            "seconds": float(np.mean(seconds)),
            **asdict(estimate([run.items for run in each])),
        }
    return {"ratios": found}


def table(facts: Mapping[str, Any]) -> Table:
    """One line for each ω."""
    lines = []
    for ratio, found in facts["ratios"].items():
        share, average, minutes = TABLE9.get(float(ratio), (None, None, None))
        cells = [
            Cell(100 * found["share"], paper=share),
            Cell.of(found, average),
            Cell(found["seconds"], paper=minutes, comparable=False),
        ]
        lines.append(Line(f"ω = {ratio}", cells))
    return Table(
        "Table 9: SPICE+ by the ratio at which it stops",
        ["chosen (%)", "average", "selection and training (s; paper: minutes)"],
        lines,
        footnotes=[
            "One greedy over the whole pool; the paper's shares are those of windows of 120 rows. "
            "Its averages are on another set of benchmarks than Table 1's: 67.0 is the mean of "
            "GSM8K, MMLU and HumanEval in SPICE's row there.",
            FOOTNOTES["pool"],
            FOOTNOTES["scale"],
        ],
        corner="stop at",
        picture="stopping.png",
    )


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``stopping.png``."""
    points = [{**found, "at": 100 * found["share"]} for found in facts["ratios"].values()]
    labels = ("chosen (% of the pool)", "average score (%), 95 % interval")
    figures.curves(
        {"SPICE+": sorted(points, key=lambda p: p["at"])}, labels, folder / "stopping.png"
    )
