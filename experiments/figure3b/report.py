"""Figure 3b: scores, information and conflict by the penalty's weight λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper import figures
from experiments.paper.published import FOOTNOTES
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table
from spice.reporting.differences import difference, estimate, holm, verdict

SWEEPS = ("figure3b",)


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """By selector and λ, each beside the same without penalty."""
    found: dict[str, Any] = {}
    for run in runs:
        found.setdefault(run.selector, {}).setdefault(run.label["selector.penalty"], []).append(run)
    return {"selectors": {name: _by_penalty(each) for name, each in found.items()}}


def _by_penalty(penalties: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    plain = {run.seed: run.items for run in penalties.get("0", [])}
    found = {}
    for penalty, runs in sorted(penalties.items(), key=lambda one: float(one[0])):
        reports = [run.results["selection"] for run in runs]
        point = {
            "information": float(np.mean([report["information"] for report in reports])),
            "changed": float(np.mean([report["changed_by_penalty"] for report in reports])),
            "conflict": float(np.mean([run.conflict for run in runs])),
            **asdict(estimate([run.items for run in runs])),
        }
        if plain and penalty != "0":
            point["against"] = asdict(difference({r.seed: r.items for r in runs}, plain))
        found[penalty] = point
    return found


def table(facts: Mapping[str, Any]) -> Table:
    """A line for each selector and λ."""
    lines = [
        Line(
            f"{name}, λ = {penalty}",
            [
                Cell.of(point),
                Cell(point["information"]),
                Cell(100 * point["conflict"], form=".2f"),
                Cell(point["changed"], form=".0f"),
            ],
            name == "spice",
        )
        for name, found in facts["selectors"].items()
        for penalty, point in found.items()
    ]
    return Table(
        "Figure 3b: the penalty's weight",
        ["average", "F(S) (nats)", "mean conflict of a pick (%)", "picks that λ changed"],
        lines,
        sentences=verdicts(facts),
        footnotes=[
            "The paper's figure has no numbers to be read: λ = 0 clearly worse, 1 slightly.",
            FOOTNOTES["pool"],
            FOOTNOTES["scale"],
        ],
        corner="",
        picture="penalty.png",
    )


def verdicts(facts: Mapping[str, Any]) -> list[str]:
    """Each λ against none."""
    against = {
        f"{name} with λ = {penalty}": point["against"]
        for name, found in facts["selectors"].items()
        for penalty, point in found.items()
        if "against" in point
    }
    corrected = holm({name: found["p"] for name, found in against.items()})
    return [
        verdict(name, "the same without penalty", found, corrected[name], len(against))
        for name, found in against.items()
    ]


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``penalty.png``: scores with their intervals, information, conflict."""

    def by_penalty(kind: str) -> dict[str, list[dict[str, Any]]]:
        return {
            name: [{"at": float(penalty), "mean": point[kind]} for penalty, point in found.items()]
            for name, found in facts["selectors"].items()
        }

    scores = {
        name: [{**point, "at": float(penalty)} for penalty, point in found.items()]
        for name, found in facts["selectors"].items()
    }
    kinds = {
        "average score (%), 95 % interval": scores,
        "F(S) (nats)": by_penalty("information"),
        "mean conflict of a pick": by_penalty("conflict"),
    }
    figures.panels(kinds, "λ", folder / "penalty.png")
