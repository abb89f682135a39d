"""Finished runs of a sweep: their scores by item, what they chose, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spice.pipeline.jobs import Jobs
from spice.reporting.differences import Items, items_of
from spice.reporting.tables import label

TRAINING = "finetune"  # all other steps that are paid for are selection


@dataclass(frozen=True)
class Run:
    """One job: what it was asked, and what came out; ``conflict`` is its picks' mean c(x|S)."""

    label: dict[str, str]
    results: dict[str, Any]
    items: Items
    ids: list[str]
    conflict: float | None
    selection_seconds: float
    training_seconds: float
    folder: Path

    @property
    def selector(self) -> str:
        """The option of that name."""
        return self.label["selector"]

    @property
    def seed(self) -> int:
        """Of random subsets, fine-tuning and scoring."""
        return int(self.results["seed"])


def collect(folders: Iterable[Path]) -> list[Run]:
    """All finished jobs of some sweeps, in their order.

    A stage is built once and used by many jobs; each is charged with all of it, as if it had been
    alone.
    """
    found = []
    for folder in folders:
        for job in Jobs(folder).read():
            if job["state"] == "finished":
                place = folder / job["folder"]
                found.append(
                    (place, json.loads((place / "results.json").read_text(encoding="utf-8")))
                )
    return [_run(place, results) for place, results in found]


def _run(place: Path, results: dict[str, Any]) -> Run:
    selection = json.loads((place / "selection.json").read_text(encoding="utf-8"))
    training = results["paid"].get(TRAINING, 0.0)
    selecting = sum(results["paid"].values()) - training
    conflicts = selection["conflicts"]
    conflict = float(np.mean(conflicts)) if conflicts else None
    return Run(
        label(results),
        results,
        items_of(place, results["scores"]),
        selection["ids"],
        conflict,
        selecting,
        training,
        place,
    )


def by_selector(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of each selector, in the order in which they first come."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.selector, []).append(run)
    return found
