"""DPP: greedy MAP of a determinantal point process (arXiv 1709.05135)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from spice.progress import counted
from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.selectors.mix import Mix
from spice.signals.base import Signal
from spice.signals.embeddings import Embeddings
from spice.signals.gradients import Gradients
from spice.submodular.greedy import BESIDE
from spice.submodular.rooms import Places, Rooms, told
from spice.values import component

FEATURES: dict[str, Signal] = {"embeddings": Embeddings(), "gradients": Gradients()}
ENOUGH = 2000  # the median distance is read off this many rows, those with the smallest ids
EXHAUSTED = 1e-10


@component
class Dpp(Mix, Selector):
    """Maximise det L_S step by step, L_xy = exp(−‖u_x − u_y‖² / 2σ²) of normalised ``features``.

    σ is the median distance between rows. A linear kernel has the rank of its features and can
    choose no more rows than that, which is why it is not offered. The paper that names DPP as a
    base line does not say which kernel it took.

    Raises:
        InputError: an option outside its range.
    """

    features: Literal["embeddings", "gradients"]

    @property
    def needs(self) -> Mapping[str, Signal]:
        """The features."""
        return {self.features: FEATURES[self.features]}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """Up to k rows, fewer if the rest repeat what is chosen; ties go to the smaller id."""
        features = signals[self.features]
        rows = np.array(sorted(eligible, key=lambda row: signals.ids[row]), dtype=np.int64)
        norms = np.linalg.norm(features[rows].astype(np.float64), axis=1)
        usable = np.isfinite(norms) & (norms > 0)
        unit = features[rows[usable]].astype(np.float64) / norms[usable, None]
        width = _median_distance(unit[:ENOUGH])

        def column(x: int) -> np.ndarray:
            return np.exp(-np.maximum(2 - 2 * unit @ unit[x], 0) / (2 * width**2))

        rooms = self.rooms(signals.sources, eligible, rows[usable], k)
        picks, volumes = greedy_map(np.ones(len(unit)), column, k, rooms)
        unusable = sorted(rows[~usable].tolist())
        return Selection(
            n=len(signals),
            indices=[int(rows[usable][pick]) for pick in picks],
            scores=volumes,
            excluded={"no usable features": unusable} if unusable else {},
            notes=told(rooms),
        )


def _median_distance(unit: np.ndarray) -> float:
    squares = np.maximum(2 - 2 * unit @ unit.T, 0)[np.triu_indices(len(unit), 1)]
    median = float(np.median(np.sqrt(squares))) if len(squares) else 1.0
    return median if median > 0 else 1.0


def greedy_map(
    diagonal: np.ndarray, column: Any, k: int, rooms: Rooms | None = None
) -> tuple[list[int], list[float]]:
    """Picks, and by how much each multiplied det L_S; ``column(x)`` is L_·x, n numbers.

    ``diagonal`` n is that of L (n × n).

    d² = diag L; take argmax d² of what ``rooms`` let be picked; e = (L_·* − C C_*ᵀ)/d_*;
    C ← [C e]; d² ← d² − e².
    """
    left = diagonal.astype(np.float64).copy()
    places = Places(len(diagonal), rooms, k)
    columns = np.empty((places.k, len(diagonal)))
    picks: list[int] = []
    volumes: list[float] = []
    for m in counted(range(len(columns)), "greedy", "picks", lambda m: m + BESIDE):
        best = int(np.argmax(np.where(places.open, left, -np.inf)))
        if left[best] < EXHAUSTED:
            break
        places.take(best)
        picks.append(best)
        volumes.append(float(left[best]))
        row = (column(best) - columns[:m, best] @ columns[:m]) / np.sqrt(left[best])
        columns[m] = row
        left = left - row * row
    return picks, volumes
