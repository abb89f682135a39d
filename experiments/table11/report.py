"""Table 11: a large target tuned on what a small proxy chose, and on what its own gradients do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper import figures
from experiments.paper.published import FOOTNOTES, SELECTORS
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table
from experiments.table10.report import TARGETS
from spice.reporting.differences import difference, estimate, holm, verdict

SWEEPS = ("table11", "table10_global")
BASELINE = "random"
OWN = "spice, by the target's own gradients"


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Scores and cost by who chose; the target's own choice beside the small proxy's."""
    chosen: dict[str, list[Run]] = {}
    for run in runs:
        if "proxy" not in run.label:
            chosen.setdefault(run.selector, []).append(run)
        elif run.label["proxy"] in TARGETS:
            chosen.setdefault(OWN, []).append(run)
    draws = _by_seed(chosen.get(BASELINE, []))
    found = {name: _measured(each) for name, each in chosen.items()}
    for name, each in chosen.items():
        if draws and name not in (BASELINE, "none"):
            found[name]["against"] = asdict(difference(_by_seed(each), draws))
    if OWN in chosen and "spice" in chosen:
        proxied = difference(_by_seed(chosen["spice"]), _by_seed(chosen[OWN]))
        found["spice"]["against_own"] = asdict(proxied)
    return {"chosen": found, "pool": runs[0].results["n"]}


def _by_seed(runs: Sequence[Run]) -> dict[int, Any]:
    return {run.seed: run.items for run in runs}


def _measured(runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "average": asdict(estimate([run.items for run in runs])),
        "selection_seconds": float(np.mean([run.selection_seconds for run in runs])),
    }


def table(facts: Mapping[str, Any]) -> Table:
    """A line for each choice."""
    lines = [
        Line(
            name,
            [Cell.of(found["average"]), Cell(found["selection_seconds"])],
            name in SELECTORS,
        )
        for name, found in facts["chosen"].items()
    ]
    return Table(
        f"Table 11: a small proxy chooses a tenth of {facts['pool']:,} rows for a larger target",
        ["average", "selection (s)"],
        lines,
        sentences=verdicts(facts),
        footnotes=[
            "The paper's Table 11 has a target of 70B parameters and a proxy of 0.5B; its numbers "
            "were not legible.",
            "Seconds of one selection as if nothing had been there before; what else the machine "
            "did meanwhile is in them.",
            FOOTNOTES["pool"],
            FOOTNOTES["scale"],
        ],
        corner="chosen by",
        picture="scores.png",
    )


def verdicts(facts: Mapping[str, Any]) -> list[str]:
    """Each choice against a uniform draw, and the proxy's against the target's own."""
    pairs = {
        (name, "a uniform draw"): found["against"]
        for name, found in facts["chosen"].items()
        if "against" in found
    }
    if "against_own" in facts["chosen"].get("spice", {}):
        own = ("spice by the small proxy", "spice by the target's own gradients")
        pairs[own] = facts["chosen"]["spice"]["against_own"]
    corrected = holm({names: found["p"] for names, found in pairs.items()})
    return [verdict(*names, found, corrected[names], len(pairs)) for names, found in pairs.items()]


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``scores.png``."""
    found = {name: one["average"] for name, one in facts["chosen"].items()}
    figures.dots(found, BASELINE, folder / "scores.png")
