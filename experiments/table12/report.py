"""Table 12: how many of SPICE's picks other selectors share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper import figures
from experiments.paper.published import FOOTNOTES, TABLE12
from experiments.paper.runs import Run, by_selector
from experiments.paper.table import Cell, Line, Table
from spice.reporting.card import overlap

SWEEPS = ("table1",)
OURS = ("spice", "spice_consensus")
ALL = {"none", "full"}  # share nothing or everything


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Overlaps by pair of selectors, the means over seeds, and the smallest and the largest."""
    selectors = {name: each for name, each in by_selector(runs).items() if name not in ALL}
    found: dict[str, Any] = {}
    for name in selectors:
        found[name] = {
            ours: _overlaps(selectors[ours], selectors[name]) for ours in OURS if ours != name
        }
    return {"overlaps": found, "n": runs[0].results["n"]}


def _overlaps(ours: Sequence[Run], theirs: Sequence[Run]) -> dict[str, Any]:
    others = {run.seed: run.ids for run in theirs}
    each = [overlap("", run.ids, others[run.seed]) for run in ours if run.seed in others]
    kinds = {kind: [getattr(o, kind) for o in each] for kind in ("jaccard", "of_ours", "of_theirs")}
    return {
        kind: {"mean": float(np.mean(v)), "low": min(v), "high": max(v), "seeds": len(v)}
        for kind, v in kinds.items()
    }


def table(facts: Mapping[str, Any]) -> Table:
    """Jaccard and both shares with SPICE, Jaccard with the consensus."""
    lines = []
    for name, found in facts["overlaps"].items():
        paper = TABLE12.get(name, (None, None, None))
        kinds = ("jaccard", "of_ours", "of_theirs")
        cells = [_cell(found.get("spice", {}).get(k), p) for k, p in zip(kinds, paper, strict=True)]
        cells.append(_cell(found.get("spice_consensus", {}).get("jaccard"), None))
        lines.append(Line(name, cells, name in TABLE12))
    return Table(
        "Table 12: picks that are shared with SPICE",
        ["Jaccard", "of SPICE's picks", "of its own picks", "Jaccard with spice_consensus"],
        lines,
        footnotes=[
            "In brackets the smallest and the largest of the seeds; selections without chance are "
            "the same for all.",
            FOOTNOTES["table12"],
        ],
        picture="overlaps.png",
    )


def _cell(found: Mapping[str, Any] | None, paper: float | None) -> Cell:
    if found is None:
        return Cell(paper=paper, form=".2f")
    return Cell(found["mean"], found["low"], found["high"], found["seeds"], paper, form=".2f")


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``overlaps.png``."""
    found = {
        name: {k: 100 * v for k, v in one["spice"]["jaccard"].items()}
        for name, one in facts["overlaps"].items()
        if "spice" in one
    }
    figures.dots(found, "random", folder / "overlaps.png", "Jaccard with SPICE's picks (%)")
