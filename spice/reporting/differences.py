"""Differences between selectors, with the luck of the draw and of the benchmark's items in them.

Runs of two selectors are paired twice: by seed, and by item, for all were asked the same. With
d_si the difference at item i with seed s, averaged over items within subtasks, over these within
benchmarks, and over benchmarks,

    variance = var_s(d_s)/S  +  variance of the mean over the items, by a paired bootstrap

The first is luck in drawing and tuning, the second luck in which items a benchmark has. What the
two share is counted twice, so intervals are rather too wide than too narrow. They are Student's,
with Satterthwaite's degrees of freedom: S − 1 for the seeds, the number of items less one for the
rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

RESAMPLES = 4_000
LEVEL = 0.95

Key = TypeVar("Key", bound=Hashable)

#: values of items by benchmark and subtask
Items = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Estimate:
    """A mean in points (0 to 100), its 95 % interval, and the two-sided p of its being 0.

    Of a single seed its luck is not in them.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int
    items: int


def items_of(folder: Path, scores: Mapping[str, Mapping[str, Any]]) -> Items:
    """Values by benchmark and subtask that a run has left; what was not scored is left out.

    Empty where the folder has no samples.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, score in scores.items():
        path = folder / "samples" / f"{name}.jsonl"
        if score["value"] is None or not path.is_file():
            continue
        tasks: dict[str, list[float]] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            tasks.setdefault(item["task"], []).append(float(item["value"]))
        found[name] = {task: np.array(values) for task, values in tasks.items()}
    return found


def estimate(runs: Sequence[Items]) -> Estimate:
    """Of the average score over S runs, or over the differences of S pairs of runs."""
    each = [average(run) for run in runs]
    mean = float(np.mean(each))
    of_items = _items_variance(_mean_items(runs))
    of_seeds = float(np.var(each, ddof=1)) / len(each) if len(each) > 1 else 0.0
    count = sum(len(values) for tasks in runs[0].values() for values in tasks.values())
    variance = of_seeds + of_items
    if variance <= 0:
        return Estimate(100 * mean, 100 * mean, 100 * mean, float(mean == 0), len(each), count)
    freedom = variance**2 / (of_seeds**2 / max(len(each) - 1, 1) + of_items**2 / max(count - 1, 1))
    from scipy.stats import t as student  # half a second, for the end of a sweep alone

    error = math.sqrt(variance)
    half = float(student.ppf(0.5 + LEVEL / 2, freedom)) * error
    p = float(2 * student.sf(abs(mean) / error, freedom))
    return Estimate(100 * mean, 100 * (mean - half), 100 * (mean + half), p, len(each), count)


def difference(ours: Mapping[int, Items], theirs: Mapping[int, Items]) -> Estimate:
    """Of two selectors' runs by seed; seeds that only one of them has are left out.

    Raises:
        ValueError: they share no seed, or were not asked the same items.
    """
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise ValueError("no seed in common")
    return estimate([_minus(ours[seed], theirs[seed]) for seed in shared])


def mixed(one: Items, other: Items, weight: float) -> Items:
    """Both runs' items, the other's by ``weight``: what a draw between the two would score."""
    return {
        benchmark: {
            task: (1 - weight) * values + weight * other[benchmark][task]
            for task, values in tasks.items()
        }
        for benchmark, tasks in one.items()
    }


def average(run: Items) -> float:
    """Over items within subtasks, over these within benchmarks, over benchmarks."""
    return float(
        np.mean([np.mean([values.mean() for values in tasks.values()]) for tasks in run.values()])
    )


def _minus(ours: Items, theirs: Items) -> Items:
    if {b: set(t) for b, t in ours.items()} != {b: set(t) for b, t in theirs.items()}:
        raise ValueError("other benchmarks")
    found: dict[str, dict[str, np.ndarray]] = {}
    for benchmark, tasks in ours.items():
        found[benchmark] = {}
        for task, values in tasks.items():
            if len(values) != len(theirs[benchmark][task]):
                raise ValueError(f"{task}: other items")
            found[benchmark][task] = values - theirs[benchmark][task]
    return found


def _mean_items(runs: Sequence[Items]) -> Items:
    return {
        benchmark: {task: np.mean([run[benchmark][task] for run in runs], axis=0) for task in tasks}
        for benchmark, tasks in runs[0].items()
    }


def _items_variance(items: Items, seed: int = 0) -> float:
    """Of the average, by drawing each subtask's items anew with replacement.

    Subtasks of one item are drawn among each other: their own luck cannot be told, and together it
    is rather overstated than left out.
    """
    rng = np.random.default_rng(seed)
    drawn = np.zeros(RESAMPLES)
    for tasks in items.values():
        for values, subtasks in _strata(list(tasks.values())):
            n = len(values)
            counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
            drawn += subtasks * (counts @ values) / (n * len(tasks) * len(items))
    return float(drawn.var())


def _strata(tasks: Sequence[np.ndarray]) -> list[tuple[np.ndarray, int]]:
    """What is drawn among each other, and of how many subtasks it is."""
    alone = [values for values in tasks if len(values) == 1]
    several = [(values, 1) for values in tasks if len(values) > 1]
    return [*several, *([(np.concatenate(alone), len(alone))] if alone else [])]


def holm(p: Mapping[Key, float]) -> dict[Key, float]:
    """Holm's correction of several p: in rising order, times how many are left, never falling."""
    found, least = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        least = max(least, min(1.0, (len(p) - rank) * p[name]))
        found[name] = least
    return found


def verdict(name: str, other: str, found: Mapping[str, Any], corrected: float, among: int) -> str:
    """One sentence that says no more than an estimate does; ``corrected`` is its p by Holm.

    The interval is the comparison's own, p that of ``among`` comparisons together.
    """
    seeds = f"{found['seeds']} seeds" if found["seeds"] > 1 else "one seed, its luck not counted"
    compared = "1 comparison" if among == 1 else f"{among} comparisons"
    told = (
        f"{found['mean']:+.1f} points, 95 % interval {found['low']:+.1f} to {found['high']:+.1f}; "
        f"p {_p(corrected)} by Holm for {compared}; {seeds}, {found['items']} items"
    )
    if corrected < 1 - LEVEL:
        side = "above" if found["mean"] > 0 else "below"
        return f"{name} is {side} {other} ({told})."
    counted = ", all comparisons counted" if found["low"] > 0 or found["high"] < 0 else ""
    return f"No difference shown between {name} and {other}{counted} ({told})."


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
