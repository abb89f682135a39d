"""What finished runs say together.

The unit of evidence is the pool: seeds of one pool share its rows. So a setting's interval is
Student's over the pools' means, each over its seeds, and differences are paired by pool.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml
from scipy.stats import t as student

KINDS = ["clean", "redundant", "contradicting", "off_topic", "malformed"]
COLOURS = ["#4f8a5b", "#a9cbb0", "#c8553d", "#9fb3bd", "#26323a"]


@dataclass(frozen=True)
class Run:
    """One finished run on a sandbox pool, and the setting that it belongs to."""

    pool: int
    seed: int
    setting: Any
    results: dict[str, Any]
    truth: dict[str, Any]
    folder: Path

    @property
    def scores(self) -> dict[str, float]:
        """Percent, the average first."""
        scores = {name: 100 * s["value"] for name, s in self.results["scores"].items()}
        return {"average": 100 * self.results["average"], **scores}

    @property
    def selection(self) -> dict[str, Any]:
        """What ``selection.json`` holds."""
        return json.loads((self.folder / "selection.json").read_text(encoding="utf-8"))

    def share(self, aspect: str, value: str) -> float:
        """Percent of the selection."""
        return 100 * self.truth[aspect].get(value, {"selection": 0.0})["selection"]


def collect(folder: Path, setting: Callable[[Mapping[str, Any]], Any]) -> list[Run]:
    """All scored runs below a folder; ``setting`` tells one from a configuration."""
    runs = []
    for path in sorted(folder.rglob("results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if not results["scores"]:
            continue
        config = yaml.safe_load((path.parent / "config.yaml").read_text(encoding="utf-8"))
        truth = json.loads((path.parent / "truth.json").read_text(encoding="utf-8"))
        found = config["data"]["seed"], results["seed"], setting(config), results, truth
        runs.append(Run(*found, path.parent))
    return runs


def interval(values: Sequence[float]) -> str:
    """Mean ± half of Student's 95 % interval."""
    if len(values) < 2:
        return f"{fmean(values):.1f}"
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.1f} ± {half:.1f}"


@dataclass(frozen=True)
class Difference:
    """Paired differences, one a pool: their mean, half of Student's 95 % interval, two-sided p."""

    mean: float
    half: float
    p: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Difference:
        """From at least two of them."""
        n, mean, spread = len(values), fmean(values), stdev(values) / math.sqrt(len(values))
        p = 2 * student.sf(abs(mean) / spread, n - 1) if spread else float(mean == 0)
        return cls(mean, float(student.ppf(0.975, n - 1)) * spread, float(p))

    @property
    def low(self) -> float:
        """Where the interval begins."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Where it ends."""
        return self.mean + self.half

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ± {self.half:.1f}"


def by_pool(runs: Iterable[Run], value: Callable[[Run], float]) -> dict[int, float]:
    """Each pool's mean over its seeds."""
    pools: dict[int, list[float]] = {}
    for run in runs:
        pools.setdefault(run.pool, []).append(value(run))
    return {pool: fmean(values) for pool, values in sorted(pools.items())}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
