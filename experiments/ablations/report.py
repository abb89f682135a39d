"""What SPICE's parts do to its score, each changed by itself, with and without weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.paper import figures
from experiments.paper.published import FOOTNOTES
from experiments.paper.runs import Run
from experiments.paper.table import Cell, Line, Table
from spice.errors import InputError
from spice.pipeline.jobs import Jobs
from spice.reporting.differences import Items, difference, estimate, holm, verdict

PARTS = ("scale", "weighted", "information", "penalty", "matched")
SWEEPS = ("table1", *(f"ablations_{part}" for part in PARTS))
#: what each selector is without a change, as conf/selector has it
DEFAULTS = {
    "spice": {"scale": "raw", "alpha": "1", "fisher": "exact", "penalty": "0.1"},
    "spice_consensus": {"scale": "unit", "alpha": "10", "fisher": "exact", "penalty": "0"},
}
COLUMNS = {"spice": "without weights", "spice_consensus": "with weights"}
FORMS = {
    "diag": "F's diagonal in its place",
    "diag_logdet": "log det of F's diagonal",
    "g4": "fourth powers (the published code's greedy)",
    "norm": "norms alone (the published code's default)",
}
DRAW, DEVELOPMENT = "random", "sandbox_development"
UNCHANGED, MATCHED = "as it is", "a draw with its sources and lengths"
UNIFORM = "a uniform draw"


def overrides(sweep: str, folders: Mapping[str, Path]) -> list[str]:
    """Whose sources and lengths matched draws have: the selections of Table 1's first seed."""
    if sweep != "ablations_matched":
        return []
    table1 = folders["table1"]
    like = {
        selector: str((table1 / job["folder"]).resolve())
        for selector in DEFAULTS
        for job in Jobs(table1).read()
        if job["state"] == "finished" and {f"selector={selector}", "seed=0"} <= {*job["overrides"]}
    }
    if len(like) < len(DEFAULTS):
        raise InputError(f"{table1}: no finished runs of {' and '.join(DEFAULTS)} with seed=0")
    return [f"selector.like={','.join(like.values())}"]


def facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Scores by selector and by what was changed of it; λ as development items tune it."""
    developed = [run for run in runs if run.label.get("benchmarks") == DEVELOPMENT]
    found: dict[str, dict[str, dict[int, Items]]] = {selector: {} for selector in DEFAULTS}
    draws: dict[int, Items] = {}
    for run in runs:
        if run.selector == DRAW:
            draws[run.seed] = run.items
        elif run not in developed and (of := _varied(run)):
            selector, changed = of
            found[selector].setdefault(changed, {})[run.seed] = run.items
    return {
        "pool": runs[0].results["n"],
        "draw": asdict(estimate(list(draws.values()))),
        "variants": {selector: _compared(each) for selector, each in found.items()},
        "tuned": {name: _tuned(name, developed, found[name], draws) for name in DEFAULTS},
    }


def _varied(run: Run) -> tuple[str, str] | None:
    """The selector that a run varies, and how; None for what varies none."""
    if "selector.like" in run.label:
        copied = Path(run.label["selector.like"]) / "results.json"
        return json.loads(copied.read_text(encoding="utf-8"))["selector"], MATCHED
    if run.selector not in DEFAULTS:
        return None
    usual = DEFAULTS[run.selector]
    given = {name: run.label.get(f"selector.{name}", value) for name, value in usual.items()}
    return run.selector, _told({name: given[name] for name in usual if given[name] != usual[name]})


def _told(changed: Mapping[str, str]) -> str:
    """Changed options in words."""
    alpha = {"relative": "1/mean ‖g‖²"}
    words = {
        "scale": lambda value: f"rows at {value} length",
        "alpha": lambda value: f"α = {alpha.get(value, value)}",
        "fisher": lambda value: FORMS[value],
        "penalty": lambda value: f"λ = {value}",
    }
    return ", ".join(words[name](value) for name, value in changed.items()) or UNCHANGED


def _compared(variants: Mapping[str, dict[int, Items]]) -> dict[str, Any]:
    """Each variant's estimate, and its difference from the unchanged selector."""
    plain = variants[UNCHANGED]
    return {
        changed: asdict(estimate(list(each.values())))
        | ({} if changed == UNCHANGED else {"against": asdict(difference(each, plain))})
        for changed, each in variants.items()
    }


def _tuned(
    selector: str,
    developed: Sequence[Run],
    variants: Mapping[str, dict[int, Items]],
    draws: dict[int, Items],
) -> dict[str, Any]:
    """λ at unit length by the mean over development items, then what it is worth on test items."""
    penalties: dict[str, list[Items]] = {}
    for run in developed:
        if run.selector == selector:
            penalties.setdefault(run.label["selector.penalty"], []).append(run.items)
    grid = sorted(penalties, key=float)
    tested = {penalty: variants[_at_unit(selector, penalty)] for penalty in grid}
    points = {
        penalty: {
            "development": estimate(penalties[penalty]).mean,
            "test": estimate(list(tested[penalty].values())).mean,
        }
        for penalty in grid
    }
    best = max(grid, key=lambda penalty: points[penalty]["development"])  # the least of equals
    return {
        "points": points,
        "chosen": best,
        "against_none": asdict(difference(tested[best], tested["0"])),
        "against_draw": asdict(difference(tested[best], draws)),
    }


def _at_unit(selector: str, penalty: str) -> str:
    usual, given = DEFAULTS[selector], {"scale": "unit", "penalty": penalty}
    return _told({name: value for name, value in given.items() if value != usual[name]})


def table(facts: Mapping[str, Any]) -> Table:
    """A line for each change, with and without weights."""
    variants = facts["variants"]
    changes = dict.fromkeys(changed for each in variants.values() for changed in each)
    lines = [
        Line(changed, [Cell.of(variants[selector].get(changed)) for selector in COLUMNS])
        for changed in changes
    ]
    draw = Line(UNIFORM, [Cell.of(facts["draw"])] * len(COLUMNS))
    return Table(
        f"Ablations: a tenth of {facts['pool']:,} rows, one part changed at a time",
        list(COLUMNS.values()),
        [*lines, draw],
        sentences=verdicts(facts),
        footnotes=[
            "As it is: without weights raw gradients, α = 1, λ = 0.1; with weights unit length, "
            "α = 10, λ = 0. Draws with a selection's sources and lengths copy that of seed 0.",
            FOOTNOTES["pool"],
        ],
        corner="changed",
        picture="ablations.png",
        sections={"λ tuned by development items": _tuning(facts["tuned"])},
    )


def verdicts(facts: Mapping[str, Any]) -> list[str]:
    """Each change against the unchanged selector, and tuned λ against none and a draw."""
    pairs = {}
    for selector, each in facts["variants"].items():
        for changed, found in each.items():
            if "against" in found:
                pairs[f"{selector}: {changed}", f"{selector} as it is"] = found["against"]
    for selector, tuned in facts["tuned"].items():
        name = f"{selector} at unit length with λ = {tuned['chosen']}, as tuned,"
        pairs[name, "λ = 0"] = tuned["against_none"]
        pairs[name, UNIFORM] = tuned["against_draw"]
    corrected = holm({names: found["p"] for names, found in pairs.items()})
    return [verdict(*names, found, corrected[names], len(pairs)) for names, found in pairs.items()]


def _tuning(tuned: Mapping[str, Any]) -> str:
    rows = ["| | λ | development items | test items |", "|---|---|---|---|"]
    for selector, found in tuned.items():
        for penalty, point in found["points"].items():
            name = f"**{penalty}**" if penalty == found["chosen"] else penalty
            scores = f"{point['development']:.1f} | {point['test']:.1f}"
            rows.append(f"| {COLUMNS[selector]} | {name} | {scores} |")
    return "\n".join(
        [
            "λ at unit length. Bold is what development items choose (the least of equals); test "
            "items had no part in it.",
            "",
            *rows,
        ]
    )


def draw(facts: Mapping[str, Any], folder: Path) -> None:
    """``ablations.png``."""
    found = {
        f"{COLUMNS[selector]}: {changed}": one
        for selector, each in facts["variants"].items()
        for changed, one in each.items()
    }
    figures.dots({**found, UNIFORM: facts["draw"]}, UNIFORM, folder / "ablations.png")
