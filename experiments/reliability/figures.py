"""The study's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from experiments.evidence import COLOURS, KINDS, Difference

INK, PALE, OURS, GRID = "#26323a", "#9fb3bd", "#c8553d", "#e5eaed"
HUES = {"spice": PALE, "spice_consensus": OURS, "spice_targeted": "#4f8a5b"}


def scores(pools: Mapping[str, Mapping[int, float]], ours: Sequence[str], path: Path) -> None:
    """A dot per pool and a bar at their mean, the best method on top; ``ours`` stand out."""
    means = {name: fmean(values.values()) for name, values in pools.items()}
    order = sorted(means, key=lambda name: means[name])
    figure = Figure(figsize=(9.0, 0.36 * len(order) + 1.3), layout="constrained")
    axes = figure.subplots()
    lines = {"uniform": ("--", "a uniform draw"), "full": (":", "all rows")}
    lines = {name: told for name, told in lines.items() if name in means}
    for name, (style, told) in lines.items():
        axes.axvline(means[name], color=INK, ls=style, lw=1, zorder=0)
        side = "right" if means[name] == min(means[n] for n in lines) else "left"
        axes.text(means[name], len(order) - 0.3, f" {told} ", ha=side, va="bottom", fontsize=9)
    for place, name in enumerate(order):
        colour = OURS if name in ours else INK
        values = list(pools[name].values())
        axes.plot(values, [place] * len(values), "o", color=colour, ms=5, alpha=0.45, mec="none")
        axes.plot([means[name]], [place], "|", color=colour, ms=15, mew=2.5)
        axes.text(101, place, f"{means[name]:.0f}", va="center", fontsize=9, color=colour)
    axes.set_yticks(range(len(order)), order)
    for label in axes.get_yticklabels():
        if label.get_text() in ours:
            label.set(color=OURS, weight="bold")
    axes.set(xlim=(10, 100), ylim=(-0.7, len(order) + 0.2))
    axes.set_xlabel("average of eight benchmarks (%), a dot per fresh pool")
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150)


def kinds(shares: Mapping[str, Sequence[float]], path: Path) -> None:
    """What the picks of each method are made of."""
    names = sorted(shares, key=lambda name: shares[name][0] + shares[name][1])
    figure = Figure(figsize=(9.0, 0.32 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(names))
    for i, (kind, colour) in enumerate(zip(KINDS, COLOURS, strict=True)):
        widths = np.array([shares[name][i] for name in names])
        axes.barh(range(len(names)), widths, left=left, color=colour, label=kind)
        left += widths
    axes.set_yticks(range(len(names)), names)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="share of the picks (%)", xlim=(0, 100))
    figure.legend(frameon=False, ncols=5, loc="outside upper center")
    figure.savefig(path, dpi=150)


def worlds(found: Mapping[str, Mapping[str, Difference | None]], path: Path) -> None:
    """The difference to a uniform draw in each world, with its interval."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=INK, lw=1)
    found = {world: gaps for world, gaps in found.items() if any(gaps.values())}
    for i, (name, colour) in enumerate(HUES.items()):
        told = {at: gap for at, gaps in enumerate(found.values()) if (gap := gaps.get(name))}
        if told:
            places = [place + 0.2 * (i - 1) for place in told]
            means, halves = zip(*((gap.mean, gap.half) for gap in told.values()), strict=True)
            axes.errorbar(places, means, halves, fmt="o", color=colour, capsize=3, label=name)
    axes.set_xticks(range(len(found)), [world.replace("_", " ") for world in found])
    axes.set_xlim(-0.5, max(len(found), 1) - 0.5)
    axes.set_ylabel("points above a uniform draw")
    axes.grid(axis="y", color=GRID)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, ncols=3, loc="outside upper center")
    figure.savefig(path, dpi=150)
