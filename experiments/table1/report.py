"""Table 1: every selector at a tenth of the pool, on eight benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper import figures
from experiments.paper.published import (
    BENCHMARKS,
    FOOTNOTES,
    SELECTORS,
    TABLE1,
    TABLE1_AVERAGE,
)
from experiments.paper.runs import Run, by_selector
from experiments.paper.table import Cell, Line, Table
from spice.reporting.differences import Items, difference, estimate, holm, verdict

SWEEPS = ("table1",)
BASELINE = "random"


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Each selector's estimates by benchmark, its cost, and its difference from a uniform draw."""
    selectors = by_selector(runs)
    found = {name: _measured(each) for name, each in selectors.items()}
    draws = {run.seed: run.items for run in selectors.get(BASELINE, [])}
    for name, each in selectors.items():
        if draws and name != BASELINE:
            against = difference({run.seed: run.items for run in each}, draws)
            found[name]["against"] = asdict(against)
    return {"selectors": found, "pool": runs[0].results["n"]}


def _measured(runs: Sequence[Run]) -> dict[str, Any]:
    items = [run.items for run in runs]
    each = {name: asdict(estimate([_only(run, name) for run in items])) for name in items[0]}
    return {
        "k": [run.results["k"] for run in runs],
        "benchmarks": each,
        "average": asdict(estimate(items)),
        "selection_seconds": float(np.mean([run.selection_seconds for run in runs])),
        "training_seconds": float(np.mean([run.training_seconds for run in runs])),
    }


def _only(run: Items, benchmark: str) -> Items:
    return {benchmark: run[benchmark]}


def table(facts: Mapping[str, Any]) -> Table:
    """As the paper has it, ours with intervals, and what the paper has not below."""
    lines = [_line(name, found) for name, found in facts["selectors"].items()]
    seeds = max(found["average"]["seeds"] for found in facts["selectors"].values())
    return Table(
        f"Table 1: a tenth of {facts['pool']:,} rows by every selector",
        ["average", *BENCHMARKS.values()],
        lines,
        sentences=verdicts(facts),
        footnotes=[
            f"Scores in %, with 95 % intervals for the luck of {seeds} seeds and of the "
            "benchmarks' items.",
            FOOTNOTES["pool"],
            FOOTNOTES["scale"],
            FOOTNOTES["ifd"],
        ],
        picture="scores.png",
        sections={"What it cost": _costs(facts)},
    )


def _line(name: str, found: Mapping[str, Any]) -> Line:
    each = [
        Cell.of(found["benchmarks"].get(key), TABLE1.get(name, {}).get(key)) for key in BENCHMARKS
    ]
    average = Cell.of(found["average"], TABLE1_AVERAGE.get(name))
    return Line(name, [average, *each], name in SELECTORS)


def verdicts(facts: Mapping[str, Any]) -> list[str]:
    """Each selector against a uniform draw, the best first."""
    against = {
        name: found["against"]
        for name, found in facts["selectors"].items()
        if "against" in found and name != "none"
    }
    corrected = holm({name: found["p"] for name, found in against.items()})
    order = sorted(against, key=lambda name: -against[name]["mean"])
    return [
        verdict(name, "a uniform draw", against[name], corrected[name], len(against))
        for name in order
    ]


def _costs(facts: Mapping[str, Any]) -> str:
    rows = ["| selector | selection | training | score |", "|---|---|---|---|"]
    for name, found in facts["selectors"].items():
        seconds = (f"{found[step]:.1f} s" for step in ("selection_seconds", "training_seconds"))
        rows.append(f"| {name} | {' | '.join(seconds)} | {found['average']['mean']:.1f} |")
    return "\n".join(
        [
            "Seconds of one run as if nothing had been there before, so that what selectors share "
            "is charged to each.",
            "",
            *rows,
        ]
    )


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``scores.png``."""
    found = {name: one["average"] for name, one in facts["selectors"].items()}
    figures.dots(found, BASELINE, folder / "scores.png")
