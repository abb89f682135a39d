"""What the study's runs say: tables, sentences that follow from them, and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

from experiments.evidence import KINDS, Difference, interval, table
from experiments.reliability import figures, verdicts
from experiments.reliability.runs import SHIPPED, Line
from spice.reporting.differences import holm

UNIFORM, WITHIN = "uniform", "uniform within sources"
OURS = ("spice_consensus", "spice_targeted")
METHODS = ("none", UNIFORM, WITHIN, "full", "oracle", "spice", "fisher", "spice unit", *OURS,
           "less", "tsds", "rds", "ifd", "selectit", "dpp", "lead")  # fmt: skip
ABLATIONS = ("weights without logdet", "logdet without weights", "no regard to sources",
             "no shares for sources", "λ = 0.1", "λ = 0.5", "α = 1", "α = 100",
             "largest 0.02 of the votes", "largest 0.3 of the votes")  # fmt: skip
WORLDS = (SHIPPED, "clean", "half_redundant", "twice_the_noise", "ten_copies", "mostly_wrong")
IN_WORLDS = ("spice", *OURS)


class Evidence:
    """The runs, asked by world and setting; a pool is the mean of its seeds."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = list(lines)

    def of(self, setting: str, world: str = SHIPPED) -> list[Line]:
        """All runs of a setting."""
        return [line for line in self.lines if (line.world, line.setting) == (world, setting)]

    def pools(
        self, setting: str, world: str = SHIPPED, value: Callable[[Line], float] | None = None
    ) -> dict[int, float]:
        """Each pool's mean over its seeds: of the average score, or of another value."""
        found: dict[int, list[float]] = {}
        for line in self.of(setting, world):
            found.setdefault(line.pool, []).append(value(line) if value else line.average)
        return {pool: fmean(values) for pool, values in sorted(found.items())}

    def minus(self, setting: str, other: str, world: str = SHIPPED) -> Difference | None:
        """The paired difference over the pools that have both; None with fewer than two.

        Of a pool only the seeds that both have count: ablations have two where methods have
        three, and what the third brings would pass for a difference.
        """
        theirs = {(line.pool, line.seed): line.average for line in self.of(other, world)}
        found: dict[int, list[float]] = {}
        for line in self.of(setting, world):
            if (line.pool, line.seed) in theirs:
                gap = line.average - theirs[line.pool, line.seed]
                found.setdefault(line.pool, []).append(gap)
        both = [fmean(found[pool]) for pool in sorted(found)]
        return Difference.of(both) if len(both) > 1 else None


def write(lines: Sequence[Line], folder: Path) -> None:
    """``RESULTS.md`` and the figures."""
    runs = Evidence(lines)
    parts = [
        "# What came out\n",
        "Written by `report.py` from `runs.csv`. Scores in %: the average of eight benchmarks on "
        f"their {lines[0].split if lines else 'test'} split; "
        "± is half of Student's 95 % interval over the pools, each pool the mean of its seeds; "
        "differences are paired by pool and seed, p is two-sided and Holm's over the table.\n",
        "## In sentences\n",
        "\n".join(f"- {sentence}" for sentence in verdicts.sentences(runs)) + "\n",
        "## Methods\n",
        _methods(runs),
        "## What is chosen (%)\n",
        _kinds(runs),
        "## Ablations of spice_consensus\n",
        _ablations(runs),
        "## Other worlds\n",
        _worlds(runs),
    ]
    text = "\n".join(part.rstrip("\n") + "\n" for part in parts)
    (folder / "RESULTS.md").write_text(text, encoding="utf-8")
    shown = [name for name in METHODS if runs.of(name)]
    figures.scores({name: runs.pools(name) for name in shown}, OURS, folder / "scores.png")
    kinds = {name: _shares(runs, name) for name in shown if name != "none"}
    figures.kinds(kinds, folder / "kinds.png")
    worlds = {
        world: {name: runs.minus(name, UNIFORM, world) for name in IN_WORLDS}
        for world in WORLDS
        if runs.of(UNIFORM, world)
    }
    figures.worlds(worlds, folder / "worlds.png")


def _methods(runs: Evidence) -> str:
    found = {name: runs.minus(name, UNIFORM) for name in METHODS if name != UNIFORM}
    corrected = holm({name: gap.p for name, gap in found.items() if gap})
    rows = []
    for name in METHODS:
        if own := runs.of(name):
            gap = found.get(name)
            told = [str(gap), f"{corrected[name]:.2g}"] if gap else ["", ""]
            mean = interval(list(runs.pools(name).values()))
            rows.append([name, f"{len(runs.pools(name))}", f"{len(own)}", mean, *told])
    return table(["method", "pools", "runs", "average", "minus uniform", "p"], rows)


def _shares(runs: Evidence, name: str) -> list[float]:
    return [fmean(line.kinds[kind] for line in runs.of(name)) for kind in KINDS]


def _kinds(runs: Evidence) -> str:
    shown = [name for name in METHODS if runs.of(name) and name != "none"]
    return table(["method", *KINDS], [[n, *(f"{s:.0f}" for s in _shares(runs, n))] for n in shown])


def _ablations(runs: Evidence) -> str:
    rows = []
    for name in (OURS[0], *ABLATIONS):
        if own := runs.of(name):
            gap = runs.minus(name, OURS[0]) if name != OURS[0] else None
            mean = interval(list(runs.pools(name).values()))
            pools = f"{len(runs.pools(name))}"
            rows.append([name, pools, f"{len(own)}", mean, str(gap or "")])
    return table(["setting", "pools", "runs", "average", "minus spice_consensus"], rows)


def _worlds(runs: Evidence) -> str:
    rows = []
    for world in WORLDS:
        uniform = runs.pools(UNIFORM, world)
        if not uniform:
            continue
        true = fmean(runs.pools(UNIFORM, world, lambda line: line.wrong).values())
        told = [x.estimated for x in runs.of(OURS[0], world) if x.estimated is not None]
        gaps = [str(runs.minus(name, UNIFORM, world) or "") for name in (WITHIN, *IN_WORLDS)]
        guess = f"{fmean(told):.0f}" if told else ""
        mean = interval(list(uniform.values()))
        name = world.replace("_", " ")
        rows.append([name, f"{len(uniform)}", f"{true:.0f}", guess, mean, *gaps])
    head = ["world", "pools", "untrustworthy (%)", "estimated (%)", "uniform"]
    return table([*head, *(f"{name}, minus uniform" for name in (WITHIN, *IN_WORLDS))], rows)
