"""What the study on real rows says: tables and a figure, from the two CSV files alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import numpy as np
from matplotlib.figure import Figure

from experiments.evidence import interval, table
from experiments.real import choices, scoring, tuning
from experiments.real.choices import CLEAN, Choice
from experiments.real.pool import BROKEN, FILES, POOL, WAYS
from experiments.real.scoring import Scored
from experiments.real.tuning import Loss

CONTROL = "uniform within sources"
RESAMPLES = 10_000
OURS, INK, GRID = "#c8553d", "#26323a", "#e5eaed"


def write(folder: Path) -> None:
    """``RESULTS.md`` and ``planted.png``."""
    chosen = choices.load(folder / "choices.csv")
    losses = tuning.load(folder / "losses.csv")
    scores = scoring.load(folder / "scores.csv")
    share = 100 * BROKEN / POOL
    parts = [
        "# What came out\n",
        "Written by `report.py` from `choices.csv` and `losses.csv`.\n",
        "## Broken rows among the picks\n",
        f"{share:.0f} % of the pool are broken, other rows in each of five plantings; ± is half of "
        "Student's 95 % interval over the plantings.\n",
        _planted(chosen),
        "## What is chosen of the clean pool\n",
        _mix(chosen),
        "## Loss on rows that are in no pool\n",
        "Nats a token, the mean over the response's tokens, then over a source's rows, then over "
        f"the sources; the difference to {CONTROL} with its 95 % interval by a paired bootstrap "
        "over the rows, drawn within sources, each row the mean of its seeds.\n",
        _losses(losses) if losses else "Not measured yet.\n",
        "## Benchmarks\n",
        "Per cent, the mean of the seeds that were scored, of the first items of each (sub)task, "
        "without examples, asked by the chat template.\n",
        _scores(scores) if scores else "Not measured yet.\n",
    ]
    text = "\n".join(part.rstrip("\n") + "\n" for part in parts)
    (folder / "RESULTS.md").write_text(text, encoding="utf-8")
    if shares := broken_shares(chosen):
        draw(shares, share, folder / "planted.png")


def broken_shares(chosen: Sequence[Choice]) -> dict[str, list[float]]:
    """Percent of each method's picks that are broken, one number a planting."""
    found: dict[str, dict[str, list[bool]]] = {}
    for choice in chosen:
        if choice.pool != CLEAN:
            by_pool = found.setdefault(choice.method, {})
            by_pool.setdefault(choice.pool, []).append(bool(choice.broken))
    return {
        method: [100 * fmean(picks) for _, picks in sorted(pools.items())]
        for method, pools in found.items()
    }


def _planted(chosen: Sequence[Choice]) -> str:
    rows = []
    for method, shares in broken_shares(chosen).items():
        own = [c for c in chosen if c.method == method and c.pool != CLEAN]
        each = [100 * fmean(c.broken == way for c in own) for way in WAYS]
        rows.append([method, f"{len(shares)}", interval(shares), *(f"{e:.1f}" for e in each)])
    return table(["method", "plantings", "broken (%)", *WAYS], rows)


def _mix(chosen: Sequence[Choice]) -> str:
    rows = []
    for method in dict.fromkeys(c.method for c in chosen):
        own = [c for c in chosen if c.method == method and c.pool == CLEAN]
        shares = [f"{100 * fmean(c.source == name for c in own):.0f}" for name in FILES]
        rows.append([method, f"{median(c.tokens for c in own):.0f}", *shares])
    return table(["method", "median answer (tokens)", *(f"{n} (%)" for n in FILES)], rows)


def _losses(losses: Sequence[Loss]) -> str:
    control, rows = per_row(losses, CONTROL), []
    for method in dict.fromkeys(row.method for row in losses):
        own = per_row(losses, method)
        seeds = len({row.seed for row in losses if row.method == method})
        means = {name: fmean(values.values()) for name, values in own.items()}
        gap = ""
        if method != CONTROL and control:
            mean, low, high = bootstrap(own, control)
            gap = f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
        each = [f"{means[name]:.3f}" for name in FILES]
        rows.append([method, f"{seeds}", f"{fmean(means.values()):.4f}", gap, *each])
    return table(["method", "seeds", "mean of sources", f"minus {CONTROL}", *FILES], rows)


def per_row(losses: Sequence[Loss], method: str) -> dict[str, dict[str, float]]:
    """By source and row: the mean over a method's seeds."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in losses:
        if row.method == method:
            found.setdefault(row.source, {}).setdefault(row.id, []).append(row.loss)
    return {
        source: {row_id: fmean(values) for row_id, values in sorted(rows.items())}
        for source, rows in sorted(found.items())
    }


def bootstrap(
    ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]]
) -> tuple[float, float, float]:
    """The mean difference over sources, and its 95 % interval: rows are drawn within sources."""
    rng = np.random.default_rng(0)
    means, total = [], np.zeros(RESAMPLES)
    for source, rows in ours.items():
        gaps = np.array([rows[i] - theirs[source][i] for i in rows])
        means.append(float(gaps.mean()))
        total += gaps[rng.integers(0, len(gaps), size=(RESAMPLES, len(gaps)))].mean(axis=1)
    low, high = np.quantile(total / len(ours), [0.025, 0.975])
    return fmean(means), float(low), float(high)


def draw(shares: dict[str, list[float]], pool: float, path: Path) -> None:
    """Broken rows among the picks, a dot per planting."""
    order = sorted(shares, key=lambda method: -fmean(shares[method]))
    figure = Figure(figsize=(9.0, 0.4 * len(order) + 1.6), layout="constrained")
    axes = figure.subplots()
    axes.axvline(pool, color=INK, ls="--", lw=1, zorder=0)
    axes.text(pool, len(order) - 0.6, " the pool's share", fontsize=8, va="center")
    for place, method in enumerate(order):
        colour = OURS if method in ("spice_consensus", "spice_targeted") else INK
        values = shares[method]
        axes.plot(values, [place] * len(values), "o", color=colour, ms=5, alpha=0.45, mec="none")
        axes.plot([fmean(values)], [place], "|", color=colour, ms=15, mew=2.5)
    axes.set_yticks(range(len(order)), order)
    axes.set(xlabel="broken rows among the picks (%), a dot per planting", xlim=(-0.5, None))
    axes.grid(axis="x", color=GRID)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150)


def _scores(scores: Sequence[Scored]) -> str:
    names = sorted({row.benchmark for row in scores})
    items = {row.benchmark: row.n for row in scores}
    head = ["method", "seeds", *(f"{name} (n = {items[name]})" for name in names)]
    lines = []
    for method in sorted({row.method for row in scores}):
        own = [row for row in scores if row.method == method]
        cells = [[row.value for row in own if row.benchmark == name] for name in names]
        told = [f"{100 * fmean(values):.1f}" if values else "" for values in cells]
        lines.append([method, str(len({row.seed for row in own})), *told])
    return table(head, lines)
