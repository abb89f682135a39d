"""What the study's runs say: one CSV line per run, tables and figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.evidence import COLOURS, KINDS, Run, by_pool, collect, interval, table
from spice.reporting.diagnostics import spearman

NAMES = {"none": "base", "clean": "oracle", "contradicting": "contradicting"}
SETTINGS = ["base", "contradicting", "random", "oracle", "full"]
SETTINGS += [f"{name} {scale}" for name in ("fisher", "spice") for scale in ("raw", "clip", "unit")]


def setting(config: Mapping[str, Any]) -> str:
    """What a run is called."""
    if config["data"]["only"]:
        return NAMES[config["data"]["only"][0]]
    selector = config["names"]["selector"]
    if selector in {"fisher", "spice"}:
        return f"{selector} {config['selector']['scale']}"
    return NAMES.get(selector, selector)


def write(runs_folder: Path, folder: Path) -> None:
    """``runs.csv``, ``RESULTS.md`` and the figures, from all runs below a folder."""
    runs = collect(runs_folder, setting)
    settings = {s: [r for r in runs if r.setting == s] for s in SETTINGS}
    settings = {name: found for name, found in settings.items() if found}
    _csv(runs, folder / "runs.csv")
    parts = [
        "# What came out\n",
        "Written by `report.py`. Scores in %; ± is half of Student's 95 % interval over the pools, "
        "each pool the mean of its seeds (the untuned base is one run).\n",
        "## Scores\n",
        _scores(settings),
        "## What is chosen (%)\n",
        _kinds(settings),
        *(f"### By {aspect}\n\n" + _shares(settings, aspect) for aspect in ("difficulty", "skill")),
        "## Gradients\n",
        _gradients(settings),
        "## Do models rank gains alike?\n",
        _ranks(runs_folder),
    ]
    (folder / "RESULTS.md").write_text(
        "\n".join(part.rstrip("\n") + "\n" for part in parts), encoding="utf-8"
    )
    draw_scores(settings, folder / "scores.png")
    draw_kinds(settings, folder / "kinds.png")


def _csv(runs: Sequence[Run], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        names = list(runs[0].scores)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["pool", "seed", "setting", "k", *names, *KINDS, "seconds"])
        for run in sorted(runs, key=lambda r: (r.pool, SETTINGS.index(r.setting), r.seed)):
            scores = [f"{value:.2f}" for value in run.scores.values()]
            kinds = [f"{run.share('kind', kind):.2f}" for kind in KINDS]
            seconds = f"{sum(run.results['seconds'].values()):.1f}"
            head = [run.pool, run.seed, run.setting, run.results["k"]]
            writer.writerow([*head, *scores, *kinds, seconds])


def _scores(settings: Mapping[str, list[Run]]) -> str:
    random = by_pool(settings.get("random", []), lambda r: r.scores["average"])
    benchmarks = list(next(iter(settings.values()))[0].scores)[1:]
    rows = []
    for name, runs in settings.items():
        means = by_pool(runs, lambda r: r.scores["average"])
        gaps = [means[pool] - random[pool] for pool in means if pool in random]
        gap = interval(gaps) if name not in {"random", "base"} and gaps else ""
        each = [f"{fmean(run.scores[b] for run in runs):.0f}" for b in benchmarks]
        rows.append([name, str(len(runs)), interval(list(means.values())), gap, *each])
    return table(["setting", "runs", "average", "minus random", *benchmarks], rows)


def _kinds(settings: Mapping[str, list[Run]]) -> str:
    rows = [["pool", *_of_pool(settings, "kind", KINDS), ""]]
    for name, runs in settings.items():
        if name == "base":
            continue
        shares = [f"{fmean(run.share('kind', kind) for run in runs):.0f}" for kind in KINDS]
        groups = fmean(r.truth["groups"]["selection"] / r.truth["k"] for r in runs)
        rows.append([name, *shares, f"{100 * groups:.0f}"])
    return table(["setting", *KINDS, "groups per 100 picks"], rows)


def _shares(settings: Mapping[str, list[Run]], aspect: str) -> str:
    """A column per setting: there are many skills."""
    shown = [name for name in settings if name not in {"base", "full", "oracle", "contradicting"}]
    values = list(settings["random"][0].truth[aspect])
    pool = dict(zip(values, _of_pool(settings, aspect, values), strict=True))
    rows = [
        [value, pool[value]]
        + [f"{fmean(run.share(aspect, value) for run in settings[name]):.0f}" for name in shown]
        for value in values
    ]
    return table([aspect, "pool", *shown], rows)


def _of_pool(settings: Mapping[str, list[Run]], aspect: str, values: Sequence[str]) -> list[str]:
    runs = settings["random"]
    return [f"{100 * fmean(run.truth[aspect][v]['pool'] for run in runs):.0f}" for v in values]


def _gradients(settings: Mapping[str, list[Run]]) -> str:
    facts = {
        "pool_conflict": "rows against the pool's mean (%)",
        "conflicting_share": "conflicting candidates (%)",
        "large_norm_share": "picks among 5 % largest norms (%)",
    }
    rows = []
    for name, runs in settings.items():
        if not name.startswith(("fisher", "spice")):
            continue
        reports = [run.results["selection"] for run in runs]
        percents = [f"{100 * fmean(r[fact] for r in reports):.0f}" for fact in facts]
        changed = f"{fmean(r['changed_by_penalty'] for r in reports):.0f}"
        leverage = f"{fmean(r['penalty_leverage'] for r in reports):.2f}"
        lengths = f"{fmean(r['norm_length_correlation'] for r in reports):+.2f}"
        rows.append([name, *percents, changed, leverage, lengths])
    tail = ["picks changed by λ", "leverage", "Spearman(norm, length)"]
    return table(["setting", *facts.values(), *tail], rows)


def _ranks(folder: Path) -> str:
    """Spearman between models, of Δ(x|∅) and of the place in a greedy order of the whole pool."""
    pairs: dict[tuple[str, str], list[list[float | None]]] = {}
    for sweep in sorted(folder.glob("*/gains")):
        read = {}
        for path in sorted(sweep.glob("*/selection.json")):
            chosen = json.loads(path.read_text(encoding="utf-8"))
            ranked = sorted(zip(chosen["ids"], chosen["bases"], range(chosen["k"]), strict=True))
            proxy = chosen["config"]["proxy"]
            read[Path(proxy.get("path") or proxy["name"]).name] = ranked
        for one, other in combinations(("proxy", "target", "qwen"), 2):
            shared = {row for row, *_ in read[one]} & {row for row, *_ in read[other]}
            a, b = ([entry for entry in read[m] if entry[0] in shared] for m in (one, other))
            correlations = [
                spearman(np.array([e[i] for e in a]), np.array([e[i] for e in b])) for i in (1, 2)
            ]
            pairs.setdefault((one, other), []).append(correlations)
    rows = [
        [f"{one} and {other}", *(", ".join(f"{v[i]:.2f}" for v in values) for i in (0, 1))]
        for (one, other), values in pairs.items()
    ]
    return table(
        ["models", "first gains Δ(x given ∅), each pool", "place in the greedy order"], rows
    )


def draw_scores(settings: Mapping[str, list[Run]], path: Path) -> None:
    """Every run a dot, one colour per pool; the bar is the mean over the pools."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    pools = sorted({run.pool for run in settings["random"]})
    for row, runs in enumerate(settings.values()):
        means = by_pool(runs, lambda r: r.scores["average"])
        axes.plot([fmean(means.values())] * 2, [row - 0.32, row + 0.32], color="#26323a", lw=2)
        for run in runs:
            place = pools.index(run.pool)
            height = row + 0.16 * (place - (len(pools) - 1) / 2)
            axes.plot(run.scores["average"], height, ".", color=COLOURS[place % 3 * 2], ms=7)
    axes.set_yticks(range(len(settings)), list(settings))
    axes.invert_yaxis()
    axes.grid(axis="x", color="#e5eaed")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="average of the eight benchmarks (%); a dot per run, a colour per pool")
    figure.savefig(path, dpi=150)


def draw_kinds(settings: Mapping[str, list[Run]], path: Path) -> None:
    """What each setting's picks are made of."""
    shown = {n: runs for n, runs in settings.items() if n in {"random"} or len(n.split()) == 2}
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(shown))
    for kind, colour in zip(KINDS, COLOURS, strict=True):
        widths = np.array([fmean(r.share("kind", kind) for r in runs) for runs in shown.values()])
        axes.barh(range(len(shown)), widths, left=left, color=colour, label=kind)
        left += widths
    axes.set_yticks(range(len(shown)), list(shown))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="share of the picks (%)", xlim=(0, 100))
    figure.legend(frameon=False, ncols=5, loc="outside upper center")
    figure.savefig(path, dpi=150)
