"""Tables 2 and 15: what selection costs, and what the same time buys on random rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper import figures
from experiments.paper.published import FOOTNOTES, SELECTORS, TABLE2
from experiments.paper.runs import Run, by_selector
from experiments.paper.table import Cell, Line, Table
from spice.reporting.differences import Items, difference, estimate, holm, mixed, verdict

SWEEPS = ("table1", "table2")
DRAWS = ("random", "full")  # uniform draws of growing size, up to all rows


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Each selector's seconds and score, and its difference from random rows of the same time."""
    tenths = by_selector([run for run in runs if run.label["budget"] in {"0.1", "1.0"}])
    curve = _curve([run for run in runs if run.selector in DRAWS])
    found = {}
    for name, each in tenths.items():
        seconds = _seconds(each)
        found[name] = {"average": asdict(estimate([r.items for r in each])), **seconds}
        if name in DRAWS or name == "none" or seconds["total"] > curve[-1]["seconds"]:
            continue
        instead = _at(curve, seconds["total"])
        ours = {run.seed: run.items for run in each}
        found[name]["against"] = asdict(difference(ours, instead["items"]))
        found[name]["share"] = instead["share"]
    told = [
        {"share": point["share"], "seconds": point["seconds"],
         **asdict(estimate(list(point["items"].values())))}
        for point in curve
    ]  # fmt: skip
    return {"selectors": found, "random": told}


def _seconds(runs: Sequence[Run]) -> dict[str, float]:
    selection = float(np.mean([run.selection_seconds for run in runs]))
    training = float(np.mean([run.training_seconds for run in runs]))
    return {"selection": selection, "training": training, "total": selection + training}


def _curve(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Random draws by their share of the pool: seconds, and items by seed.

    Those that take no longer than a smaller one are left out: training has a largest number of
    steps, and more rows cost nothing more there.
    """
    shares = sorted({run.results["k"] / run.results["n"] for run in runs})
    found = []
    for share in shares:
        each = [run for run in runs if run.results["k"] / run.results["n"] == share]
        items = {run.seed: run.items for run in each}
        seconds = _seconds(each)["total"]
        if not found or seconds > found[-1]["seconds"]:
            found.append({"share": share, "seconds": seconds, "items": items})
    return found


def _at(curve: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """Between the draws that take less and more: their items in proportion, by seed."""
    times = [point["seconds"] for point in curve]
    upper = int(np.clip(np.searchsorted(times, seconds), 1, len(times) - 1))
    low, high = curve[upper - 1], curve[upper]
    weight = float(np.clip((seconds - times[upper - 1]) / (times[upper] - times[upper - 1]), 0, 1))
    items: dict[int, Items] = {
        seed: mixed(low["items"][seed], high["items"][seed], weight)
        for seed in low["items"].keys() & high["items"].keys()
    }
    return {"share": (1 - weight) * low["share"] + weight * high["share"], "items": items}


def table(facts: Mapping[str, Any]) -> Table:
    """Minutes as the paper has them stand beside our seconds."""
    lines = []
    for name, found in facts["selectors"].items():
        llama, minutes, qwen = TABLE2.get(name, (None, None, None))
        cells = [
            Cell.of(found["average"], qwen),
            Cell(found["selection"], paper=minutes, comparable=False),
            Cell(found["training"]),
            Cell(paper=llama),
        ]
        lines.append(Line(name, cells, name in SELECTORS))
    return Table(
        "Tables 2 and 15: what selection costs",
        ["average", "selection (s; paper: minutes)", "training (s)", "paper, LLaMA2-7B"],
        lines,
        sentences=verdicts(facts),
        footnotes=[
            "Seconds of one run as if nothing had been there before, beside one other run on this "
            "machine. A uniform draw of as many rows as can be trained on in the time of selection "
            "and training together stands between the two measured draws around it; where more "
            "time was taken than by any draw, nothing is compared. Training has a largest number "
            "of steps, beyond which more rows take no longer.",
            FOOTNOTES["pool"],
            FOOTNOTES["scale"],
            FOOTNOTES["table15"],
            FOOTNOTES["table2"],
        ],
        picture="cost.png",
    )


def verdicts(facts: Mapping[str, Any]) -> list[str]:
    """Each selector against random rows of the same time, the best first."""
    against = {n: found for n, found in facts["selectors"].items() if "against" in found}
    corrected = holm({name: found["against"]["p"] for name, found in against.items()})
    told = [
        verdict(
            name,
            f"a uniform draw of {found['share']:.0%}, which takes as long",
            found["against"],
            corrected[name],
            len(against),
        )
        for name, found in sorted(against.items(), key=lambda one: -one[1]["against"]["mean"])
    ]
    longest = facts["random"][-1]["seconds"]
    slower = [n for n, found in facts["selectors"].items() if found["total"] > longest]
    if slower:
        told.append(f"Slower than any uniform draw ({longest:.0f} s): {', '.join(slower)}.")
    return told


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``cost.png``: scores over seconds, random draws as a line."""
    points = [{**point, "at": point["seconds"]} for point in facts["random"]]
    others = {
        name: {**found["average"], "at": found["total"]}
        for name, found in facts["selectors"].items()
        if name not in (*DRAWS, "none")
    }
    figures.curves(
        {"uniform draws": points},
        ("seconds of selection and training", "average score (%), 95 % interval"),
        folder / "cost.png",
        points=others,
    )
