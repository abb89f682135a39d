"""TSDS: rows where the target examples lie, thinned where they crowd (arXiv 2410.11303)."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from annotated_types import Gt, Lt

from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.signals.base import Signal
from spice.signals.embeddings import Embeddings, TargetEmbeddings
from spice.values import Count, NonNegative, Positive, Told, component


@component
class Tsds(Selector):
    """Draw rows by the optimal transport from the target examples, against their density.

    Distances d are Euclidean between embeddings of unit length. Each of M targets looks at its
    ``neighbours`` nearest rows; ρ_i = Σ max(0, 1 − D²/σ²) over the rows that any target looks at
    counts those near row i, itself included, and σ is ``bandwidth`` (0: no density, ρ = 1).
    ``alpha`` α weighs closeness against diversity, ``scale`` is C. A set is wanted, so k rows are
    drawn without replacement.

    Raises:
        InputError: an option outside its range.
    """

    neighbours: Count | None
    density_neighbours: Count | None
    bandwidth: NonNegative
    alpha: Annotated[float, Gt(0), Lt(1), Told("must be between 0 and 1")]
    scale: Positive

    @property
    def needs(self) -> Mapping[str, Signal]:
        """Embeddings of the pool and of the targets."""
        return {"embeddings": Embeddings(), "target_embeddings": TargetEmbeddings()}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """Up to k rows, fewer if the transport reaches no more."""
        pool, targets = (signals[name] for name in self.needs)
        rows = np.array(sorted(eligible, key=lambda row: signals.ids[row]), dtype=np.int64)
        known = np.isfinite(pool[rows]).all(axis=1)
        rows = rows[known]
        p = self.probabilities(_unit(pool[rows]), _unit(targets))
        count = min(k, int(np.sum(p > 0)))
        drawn = rng.choice(len(rows), size=count, replace=False, p=p).tolist() if count else []
        return Selection(
            n=len(signals),
            indices=[int(rows[place]) for place in drawn],
            scores=[float(p[place]) for place in drawn],
        )

    def probabilities(self, candidates: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The chance of each of n candidates (n × h), given m targets (m × h)."""
        tenth = max(1, len(candidates) // 10)
        count = self.neighbours or min(5000, tenth)
        distances = np.sqrt(np.maximum(_squared_distances(targets, candidates), 0))
        count = min(count, len(candidates))
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :count]
        looked_at = np.unique(nearest)
        density = np.ones(len(candidates))
        near = self.density_neighbours or min(1000, tenth)
        density[looked_at] = kernel_density(candidates[looked_at], self.bandwidth, near)
        d = np.take_along_axis(distances, nearest, axis=1)
        shares = transport(d, density[nearest], self.alpha, self.scale)
        p = np.zeros(len(candidates))
        np.add.at(p, nearest, shares)
        return p / p.sum()


def kernel_density(points: np.ndarray, bandwidth: float, near: int) -> np.ndarray:
    """ρ_i = Σ max(0, 1 − D²/σ²) over the ``near`` nearest points, i itself among them.

    m numbers of ``points`` m × h.
    """
    if bandwidth == 0:
        return np.ones(len(points))
    squares = np.maximum(_squared_distances(points, points), 0)
    np.fill_diagonal(squares, 0.0)
    closest = np.sort(squares, axis=1)[:, :near]
    return np.maximum(0, 1 - closest / bandwidth**2).sum(axis=1)


def transport(d: np.ndarray, density: np.ndarray, alpha: float, scale: float) -> np.ndarray:
    """The chance of each target's neighbours, m × L; ``d`` ascends along each row.

    A common level s rises. Every target fills its neighbours one after the other with mass 1/ρ;
    its cost is Σ (d_next − d_i)/ρ_i over what is filled. The rise ends at the first filling where
    α/C · Σ cost ≥ (1 − α)·m, or where a target has no neighbour left. A filled neighbour then has
    the chance 1/(m s ρ), and what is left up to s goes to the next one.
    """
    m, reach = d.shape
    mass = 1.0 / density
    filled = np.zeros(m, dtype=int)
    sums = np.zeros(m)  # mass filled so far
    moments = np.zeros(m)  # and its distances
    costs = np.zeros(m)
    heap = [(mass[q, 0], q) for q in range(m)]
    heapq.heapify(heap)
    level = 0.0
    while True:
        level, q = heapq.heappop(heap)
        j = filled[q]
        sums[q] += mass[q, j]
        moments[q] += mass[q, j] * d[q, j]
        filled[q] += 1
        if filled[q] == reach:
            break
        costs[q] = d[q, j + 1] * sums[q] - moments[q]
        if alpha / scale * costs.sum() >= (1 - alpha) * m:
            break
        heapq.heappush(heap, (sums[q] + mass[q, j + 1], q))
    shares = np.where(np.arange(reach) < filled[:, None], mass, 0.0)
    left = np.flatnonzero(filled < reach)
    shares[left, filled[left]] = level - sums[left]
    return np.maximum(shares, 0) / (m * level)


def _unit(vectors: np.ndarray) -> np.ndarray:
    whole = vectors.astype(np.float64)
    return whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
