"""What the study's runs say: one CSV line per run, tables and figures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import yaml
from matplotlib.figure import Figure

from experiments.evidence import COLOURS, KINDS, Run, by_pool, collect, interval, table

SCALES = ["raw", "clip", "unit"]
PENALTIES = [0.0, 0.1, 0.5, 1.0]
HUES = {"raw": "#c8553d", "clip": "#7d8f98", "unit": "#4f8a5b"}
CONTROLS = ["uniform", "oracle", *(f"matched to {scale}" for scale in SCALES)]


class Setting(NamedTuple):
    """``group`` is the schedule of a greedy run, ``well-formed``, or one of the controls."""

    group: str
    scale: str = ""
    penalty: float = 0.0

    def __str__(self) -> str:
        return f"{self.group}, {self.scale}, λ={self.penalty:g}" if self.scale else self.group


Runs = Mapping[Setting, list[Run]]


def setting(config: Mapping[str, Any]) -> Setting:
    """What a run is called."""
    selector, only = config["selector"], config["data"]["only"]
    if "like" in selector:
        copied = yaml.safe_load(
            (Path(selector["like"]) / "config.yaml").read_text(encoding="utf-8")
        )
        return Setting(f"matched to {copied['selector']['scale']}")
    if "penalty" in selector:
        schedule = "pools" if "pool_size" in config["schedule"] else "global"
        group = "well-formed" if only else schedule
        return Setting(group, selector["scale"], float(selector["penalty"]))
    if only == ["clean"]:
        return Setting("oracle")
    return Setting("uniform of well-formed" if only else "uniform")


def write(runs_folder: Path, folder: Path) -> None:
    """``runs.csv``, ``RESULTS.md`` and the figures, from all runs below a folder."""
    runs: dict[Setting, list[Run]] = {}
    for run in sorted(collect(runs_folder, setting), key=lambda r: (r.pool, r.seed)):
        runs.setdefault(run.setting, []).append(run)
    runs = dict(sorted(runs.items()))
    folder.mkdir(parents=True, exist_ok=True)
    _csv(runs, folder / "runs.csv")
    parts = [
        "# What came out\n",
        "Written by `report.py`. Scores in %; ± is half of Student's 95 % interval over the pools, "
        "each pool the mean of its seeds; differences are paired by pool.\n",
        "## What the penalty changes\n",
        _changes(runs),
        "## What is chosen (%)\n",
        _kinds(runs),
        "## Scores of the tuned target\n",
        _scores(runs),
        "## Without malformed rows\n",
        "The same pools, their malformed rows left out before anything is read.\n",
        _well_formed(runs),
    ]
    (folder / "RESULTS.md").write_text(
        "\n".join(part.rstrip("\n") + "\n" for part in parts), encoding="utf-8"
    )
    draw_scores(runs, folder / "scores.png")
    draw_kinds(runs, folder / "kinds.png")


def score(run: Run) -> float:
    """The average over the benchmarks."""
    return run.scores["average"]


def greedy(runs: Runs) -> list[Setting]:
    """The settings of the full factorial."""
    return in_order(s for s in runs if s.group in {"global", "pools"})


def in_order(settings: Iterable[Setting]) -> list[Setting]:
    """By group, scale and λ."""
    scales = ["", *SCALES]
    return sorted(settings, key=lambda s: (s.group, scales.index(s.scale), s.penalty))


def changed(runs: Runs, of: Setting) -> list[float]:
    """Percent of the picks that are not among those of λ = 0, pool and seed alike."""
    plain = {(r.pool, r.seed): set(r.selection["ids"]) for r in runs[of._replace(penalty=0.0)]}
    chosen = {(r.pool, r.seed): set(r.selection["ids"]) for r in runs[of]}
    return [100 * len(ids - plain[key]) / len(ids) for key, ids in chosen.items()]


def gaps(runs: Runs, of: Setting, to: Setting) -> list[float]:
    """Differences of the score, one per pool."""
    there = by_pool(runs[to], score)
    return [mean - there[pool] for pool, mean in by_pool(runs[of], score).items()]


def _csv(runs: Runs, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = list(next(iter(runs.values()))[0].scores)
        writer.writerow(["pool", "seed", "setting", "scale", "lambda", "k", *names, *KINDS])
        for name, found in runs.items():
            for run in found:
                scores = [f"{value:.2f}" for value in run.scores.values()]
                kinds = [f"{run.share('kind', kind):.2f}" for kind in KINDS]
                writer.writerow([run.pool, run.seed, *name, run.results["k"], *scores, *kinds])


def _changes(runs: Runs) -> str:
    facts: dict[str, Callable[[Run], float]] = {
        "leverage": lambda r: r.results["selection"]["penalty_leverage"],
        "conflicting candidates (%)": lambda r: 100 * r.results["selection"]["conflicting_share"],
        "mean conflict of the picks": lambda r: fmean(r.selection["conflicts"]),
        "picks among 5 % largest norms (%)": lambda r: (
            100 * r.results["selection"]["large_norm_share"]
        ),
    }
    rows = []
    for name in greedy(runs):
        parts = changed(runs, name)
        spread = f"{fmean(parts):.0f} ({min(parts):.0f} to {max(parts):.0f})"
        values = [fmean(by_pool(runs[name], fact).values()) for fact in facts.values()]
        shown = [f"{value:.2g}" if value < 1 else f"{value:.0f}" for value in values]
        rows.append([name.group, name.scale, f"{name.penalty:g}", spread, *shown])
    return table(["schedule", "scale", "λ", "picks that λ = 0 does not make (%)", *facts], rows)


def _kinds(runs: Runs) -> str:
    pool = next(run for run in runs[Setting("uniform")]).truth["kind"]
    rows = [["all rows", *(f"{100 * pool[kind]['pool']:.0f}" for kind in KINDS)]]
    for name in [*greedy(runs), *map(Setting, CONTROLS)]:
        if found := runs.get(name):
            rows.append([str(name), *_shares(found)])
    return table(["setting", *KINDS], rows)


def _shares(found: Sequence[Run]) -> list[str]:
    return [f"{fmean(run.share('kind', kind) for run in found):.0f}" for kind in KINDS]


def _scores(runs: Runs) -> str:
    uniform, rows = Setting("uniform"), []
    for name in [*map(Setting, CONTROLS), *greedy(runs)]:
        if name not in runs:
            continue
        matched = Setting(f"matched to {name.scale}")
        against = [
            uniform if name != uniform else None,
            matched if matched in runs else None,
            name._replace(penalty=0.0) if name.penalty else None,
        ]
        differences = [interval(gaps(runs, name, to)) if to else "" for to in against]
        mean = interval(list(by_pool(runs[name], score).values()))
        rows.append([str(name), f"{len(runs[name])}", mean, *differences])
    head = ["setting", "runs", "average", "minus uniform"]
    return table([*head, "minus matched", "minus λ = 0"], rows)


def _well_formed(runs: Runs) -> str:
    rows, uniform = [], Setting("uniform of well-formed")
    for name in in_order(s for s in runs if s.group in {"well-formed", uniform.group}):
        twin = name._replace(group="global") if name.scale else Setting("uniform")
        mean = interval(list(by_pool(runs[name], score).values()))
        over = interval(gaps(runs, name, uniform)) if name != uniform else ""
        gain = interval(gaps(runs, name, twin))
        lost = f"{fmean(run.share('kind', 'malformed') for run in runs[twin]):.0f}"
        rows.append([str(name), mean, over, gain, lost, *_shares(runs[name])[:-1]])
    head = ["setting", "average", "minus uniform of well-formed", "minus the same with them"]
    return table([*head, "malformed picks with them (%)", *KINDS[:-1]], rows)


def draw_scores(runs: Runs, path: Path) -> None:
    """Score against λ, a panel per schedule; a dot per pool, the line through their means."""
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, group in zip(panels, ("global", "pools"), strict=True):
        for control, style in (("oracle", "-"), ("uniform", "--")):
            if found := runs.get(Setting(control)):
                mean = fmean(by_pool(found, score).values())
                axes.axhline(mean, color="#26323a", ls=style, lw=1)
                axes.text(3.4, mean, control, va="bottom", ha="right", fontsize=8)
        for i, (scale, colour) in enumerate(HUES.items()):
            places = np.arange(len(PENALTIES)) + 0.12 * (i - 1)
            pools = [by_pool(runs[Setting(group, scale, p)], score) for p in PENALTIES]
            means = [fmean(values.values()) for values in pools]
            axes.plot(places, means, color=colour, lw=1.5, label=scale)
            for place, values in zip(places, pools, strict=True):
                axes.plot([place] * len(values), list(values.values()), ".", color=colour, ms=6)
        axes.set_xticks(range(len(PENALTIES)), [f"{p:g}" for p in PENALTIES])
        axes.set(title=f"schedule={group}", xlabel="λ", xlim=(-0.5, len(PENALTIES) - 0.5))
        axes.grid(axis="y", color="#e5eaed")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("average of eight benchmarks (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    names = [f"selector.scale={label}" for label in labels]
    figure.legend(handles, names, frameon=False, ncols=3, loc="outside upper center")
    figure.savefig(path, dpi=150)


def draw_kinds(runs: Runs, path: Path) -> None:
    """What the picks are made of."""
    shown = [s for s in greedy(runs) if s.penalty in {0.0, 0.1, 1.0}]
    shown = [s for s in (Setting("uniform"), *shown) if s in runs]
    figure = Figure(figsize=(7.6, 5.2), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(shown))
    for kind, colour in zip(KINDS, COLOURS, strict=True):
        widths = np.array([fmean(run.share("kind", kind) for run in runs[s]) for s in shown])
        axes.barh(range(len(shown)), widths, left=left, color=colour, label=kind)
        left += widths
    axes.set_yticks(range(len(shown)), [str(s) for s in shown])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="share of the picks (%)", xlim=(0, 100))
    figure.legend(frameon=False, ncols=5, loc="outside upper center")
    figure.savefig(path, dpi=150)
