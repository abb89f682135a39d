"""Table 14: scores by budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.paper import figures
from experiments.paper.published import FOOTNOTES, TABLE14
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table
from spice.reporting.differences import difference, estimate, holm, verdict

SWEEPS = ("table1", "table14")
SHOWN = ("none", "random", "spice", "spice_consensus", "full")
BASELINE = "random"


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Estimates by selector and budget, each beside random rows of the same number."""
    found: dict[str, Any] = {name: {} for name in SHOWN}
    for name in SHOWN:
        each = [run for run in runs if run.selector == name]
        for budget in sorted({run.results["budget"] for run in each}):
            these = [run for run in each if run.results["budget"] == budget]
            point = {"k": these[0].results["k"], **asdict(estimate([r.items for r in these]))}
            draws = {r.seed: r.items for r in runs
                     if r.selector == BASELINE and r.results["budget"] == budget}  # fmt: skip
            if draws and name != BASELINE:
                ours = {run.seed: run.items for run in these}
                point["against"] = asdict(difference(ours, draws))
            found[name][f"{budget:g}"] = point
    return {"selectors": found}


def table(facts: Mapping[str, Any]) -> Table:
    """A column for each budget."""
    selectors = facts["selectors"]
    budgets = sorted({float(b) for found in selectors.values() for b in found})
    lines = [
        Line(
            name,
            [Cell.of(found.get(f"{b:g}"), TABLE14.get((name, b))) for b in budgets],
            any(key[0] == name for key in TABLE14),
        )
        for name, found in selectors.items()
    ]
    return Table(
        "Table 14: average scores by budget",
        [f"{budget:.0%}" for budget in budgets],
        lines,
        sentences=verdicts(facts),
        footnotes=[
            FOOTNOTES["pool"],
            FOOTNOTES["scale"],
            "SPICE+ (58.1 at some 30 %) is in Table 9.",
        ],
        picture="budgets.png",
    )


def verdicts(facts: Mapping[str, Any]) -> list[str]:
    """Each selector at each budget against a uniform draw of as many rows."""
    against = {
        (name, budget): point["against"]
        for name, found in facts["selectors"].items()
        for budget, point in found.items()
        if "against" in point
    }
    corrected = holm({f"{n} {b}": found["p"] for (n, b), found in against.items()})
    return [
        verdict(f"{name} at {float(budget):.0%}", "a uniform draw", found,
                corrected[f"{name} {budget}"], len(against))
        for (name, budget), found in against.items()
    ]  # fmt: skip


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``budgets.png``."""
    lines = {
        name: [{**point, "at": 100 * float(budget)} for budget, point in found.items()]
        for name, found in facts["selectors"].items()
        if len(found) > 1
    }
    labels = ("budget (% of the pool)", "average score (%), 95 % interval")
    figures.curves(lines, labels, folder / "budgets.png", log=True)
