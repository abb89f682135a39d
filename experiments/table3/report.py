"""Table 3 and figure 9: how diverse are the selections, and whose rows do they hold?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from experiments.paper import figures
from experiments.paper.gradients import embeddings
from experiments.paper.published import COVERAGE, FOOTNOTES, SELECTORS, TABLE3
from experiments.paper.runs import Run, by_selector
from experiments.paper.table import Cell, Line, Table
from spice.submodular.diversity import (
    coverage,
    density_weights,
    log_determinant_distance,
    novel_sum,
    unit,
)

SWEEPS = ("table1",)
CLUSTERS = 100  # of some thousand rows; the paper has 1,000 of 97,500
ALL = {"none", "full"}


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """By selector: the measures of its picks, means over seeds, the smallest and the largest."""
    E, ids = embeddings(next(run for run in runs if run.selector == "dpp").folder)
    rows = unit(E)
    place = {name: i for i, name in enumerate(ids)}
    sigma = density_weights(rows, np.unique(rows, axis=0))
    clusters = KMeans(min(CLUSTERS, len(rows) // 2), n_init=3, random_state=0).fit_predict(rows)
    found = {}
    for name, each in by_selector(runs).items():
        if name in ALL:
            continue
        measured = []
        for run in each:
            picks = np.array([place[row] for row in run.ids])
            shares = run.results["selection"]["sources"]
            measured.append(
                {
                    "ldd": log_determinant_distance(rows[picks]),
                    "novel_sum": 100 * novel_sum(rows[picks], sigma[picks]),
                    "coverage": 100 * coverage(clusters, picks),
                    **{source: 100 * share["picked"] for source, share in shares.items()},
                }
            )
        found[name] = {
            kind: {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}
            for kind in measured[0]
            for values in [[one[kind] for one in measured]]
        }
    sources = {
        s: 100 * share["pool"] for s, share in runs[0].results["selection"]["sources"].items()
    }
    return {"selectors": found, "pool": sources, "seeds": len({run.seed for run in runs})}


def table(facts: Mapping[str, Any]) -> Table:
    """Diversity, coverage, and each source's share of the picks."""
    lines = []
    for name, found in facts["selectors"].items():
        papers: dict[str, float | None] = dict(TABLE3.get(name, {}))
        papers["coverage"] = COVERAGE.get(name)
        cells = [
            Cell(one["mean"], one["low"], one["high"], facts["seeds"], papers.get(kind),
                 ".2f" if kind == "ldd" else ".1f")
            for kind, one in found.items()
        ]  # fmt: skip
        lines.append(Line(name, cells, name in SELECTORS))
    shares = [f"{source} (%; pool {share:.0f})" for source, share in facts["pool"].items()]
    return Table(
        "Table 3 and figure 9: diversity of the selections",
        ["LDD (small is diverse)", "NovelSum", "clusters covered (%)", *shares],
        lines,
        footnotes=[
            "Of the proxy's embeddings, at unit length; means over the seeds, in brackets the "
            "smallest and the largest.",
            FOOTNOTES["table3"],
        ],
        picture="coverage.png",
    )


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``coverage.png``."""
    found = {name: one["coverage"] for name, one in facts["selectors"].items()}
    figures.dots(found, "random", folder / "coverage.png", "clusters covered (%)")
