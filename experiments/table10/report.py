"""Table 10 and figure 3c: proxies by size and family, and how often they learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import spice
from experiments.paper import figures
from experiments.paper.gradients import alphas, of_run
from experiments.paper.published import FOOTNOTES
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table
from spice.reporting.differences import estimate
from spice.submodular.perturbation import perturbation

SWEEPS = ("table10", "table10_global")
TARGETS = ("sandbox_target", "qwen2_7b", "local")  # proxies that are the target itself
NAMES = {
    "sandbox": "small, same family",
    "sandbox_target": "the target itself",
    "sandbox_qwen": "another family",
}
GLOBAL = "one greedy"
CHOSEN, PROBE = 60, 400  # picks of the target's greedy, and rows that both rank behind them


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Scores by proxy and schedule; how alike each proxy ranks gains to the target."""
    found: dict[str, dict[str, Any]] = {}
    for proxy in _proxies(runs):
        of_proxy = [run for run in runs if run.label["proxy"] == proxy]
        turns = {run.label.get("schedule.refresh_every", GLOBAL) for run in of_proxy}
        found[proxy] = {
            turn: asdict(estimate([
                run.items for run in of_proxy
                if run.label.get("schedule.refresh_every", GLOBAL) == turn
            ]))
            for turn in sorted(turns, key=lambda turn: (turn == GLOBAL, len(turn), turn))
        }  # fmt: skip
    return {"proxies": found, "certificates": _certificates(runs)}


def _proxies(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.label["proxy"] for run in runs))


def _certificates(runs: Sequence[Run]) -> dict[str, Any]:
    stores = {
        proxy: of_run(next(
            run.folder for run in runs
            if run.label["proxy"] == proxy and "schedule.refresh_every" not in run.label
        ))
        for proxy in _proxies(runs)
    }  # fmt: skip
    itself = next(proxy for proxy in stores if proxy in TARGETS)
    target = stores[itself]
    alpha = alphas(target)["α = 1/mean ‖g‖²"]
    chosen = spice.select(target, CHOSEN, alpha=alpha, penalty=0.0).indices
    drawn = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(len(target)), chosen))
    rows = np.concatenate([chosen, np.sort(drawn[:PROBE])])
    gains = {}
    for proxy, G in stores.items():
        at = alphas(G)["α = 1/mean ‖g‖²"]
        gains[proxy] = perturbation(G[rows], at, range(CHOSEN))
    return {
        proxy: {
            "bases": float(spearmanr(found.bases, gains[itself].bases).statistic),
            "gains": float(spearmanr(found.gains, gains[itself].gains).statistic),
        }
        for proxy, found in gains.items()
    }


def table(facts: Mapping[str, Any]) -> Table:
    """A line for each proxy."""
    turns = list(next(iter(facts["proxies"].values())))
    lines = []
    for proxy, found in facts["proxies"].items():
        certificate = facts["certificates"][proxy]
        cells = [
            *(Cell.of(found[turn]) for turn in turns),
            Cell(certificate["bases"], form=".3f"),
            Cell(certificate["gains"], form=".3f"),
        ]
        lines.append(Line(NAMES.get(proxy, proxy), cells))
    return Table(
        "Table 10 and figure 3c: proxies",
        [
            *(turn if turn == GLOBAL else f"T = {turn}" for turn in turns),
            "ranks Δ(∅) like the target",
            f"ranks Δ(S) like it, |S| = {CHOSEN}",
        ],
        lines,
        footnotes=[
            "T: windows of 120 rows after which the proxy learns what they gave; this pool has ten "
            "of them, so with 50 it never does. Ranks: Spearman's correlation of gains over "
            f"{PROBE} rows, S the target's own greedy.",
            "The paper's proxies are Qwen2-0.5B, 1.5B, 7B and LLaMA2-7B: 66.9, 66.8, 67.1, 66.1 on "
            "average, which do not follow from its rows; a transcription is suspected.",
            FOOTNOTES["pool"],
            FOOTNOTES["scale"],
        ],
        corner="proxy",
        picture="proxies.png",
    )


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``proxies.png``."""
    found = {
        f"{NAMES.get(proxy, proxy)}, {turn if turn == GLOBAL else f'T = {turn}'}": one
        for proxy, turns in facts["proxies"].items()
        for turn, one in turns.items()
    }
    figures.dots(found, "", folder / "proxies.png")
