"""Pictures of tables and curves, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from matplotlib.figure import Figure

INK, ACCENT, MUTED, GRID = "#26323a", "#c8553d", "#9fb3bd", "#e5eaed"
COLOURS = (ACCENT, INK, "#4f8a5b", "#b08a3e", "#6d6a9c", MUTED)


def dots(
    estimates: Mapping[str, Mapping[str, Any]],
    baseline: str,
    path: Path,
    label: str = "average score (%), 95 % interval",
) -> Path:
    """Means with their intervals, the largest on top, and a line where the ``baseline`` stands."""
    names = sorted(estimates, key=lambda name: estimates[name]["mean"])
    width = max(6.4, 4.0 + 0.075 * max(map(len, names)))  # long names leave room for the axis
    figure = Figure(figsize=(width, 1.2 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    if baseline in estimates:
        axes.axvline(estimates[baseline]["mean"], color=MUTED, linewidth=1, zorder=0)
    for at, name in enumerate(names):
        found = estimates[name]
        colour = ACCENT if name.startswith("spice") else INK
        if found["low"] is not None:
            axes.plot([found["low"], found["high"]], [at, at], color=colour, linewidth=1.4)
        axes.plot(found["mean"], at, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(label)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return path


def curves(
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    labels: tuple[str, str],
    path: Path,
    log: bool = False,
    marks: bool = True,
    points: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Path:
    """Means over an axis ``at``, each with the band of its interval; ``points`` stand alone."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    _lines(axes, lines, marks)
    for name, point in points.items():
        axes.plot(point["at"], point["mean"], "o", color=INK, markersize=4)
        place = point["at"], point["mean"]
        axes.annotate(name, place, (4, 3), textcoords="offset points", size=7)
    if log:
        axes.set_xscale("log")
        ticks = sorted({point["at"] for along in lines.values() for point in along})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return path


def panels(
    kinds: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], label: str, path: Path
) -> Path:
    """Several :func:`curves` side by side over one axis, each with what it shows above it."""
    figure = Figure(figsize=(4.2 * len(kinds), 3.6), layout="constrained")
    for axes, (kind, lines) in zip(
        figure.subplots(1, len(kinds), squeeze=False)[0], kinds.items(), strict=True
    ):
        _lines(axes, lines, marks=True)
        axes.set(xlabel=label, title=kind)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return path


def _lines(axes: Any, lines: Mapping[str, Sequence[Mapping[str, Any]]], marks: bool) -> None:
    for colour, (name, along) in zip(COLOURS * 3, lines.items(), strict=False):
        at, style = [point["at"] for point in along], "o-" if marks else "-"
        axes.plot(at, [point["mean"] for point in along], style, color=colour, label=name, ms=4)
        if all(point.get("low") is not None for point in along):
            low, high = ([point[side] for point in along] for side in ("low", "high"))
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
