"""FisherSFT: information about the last layer, from forward passes alone (arXiv 2505.14826)."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

import numpy as np

from spice.progress import progress
from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.selectors.mix import Mix
from spice.signals.base import Signal
from spice.signals.token_information import TokenInformation
from spice.submodular.rooms import Places, Rooms, told
from spice.values import Count, component


@component
class FisherSft(Mix, Selector):
    """Greedily maximise log det(I + Σ_{i∈S} A_i), A_i = Σ_j x_ij x_ijᵀ over a row's tokens.

    The last layer seen as a multinomial logistic regression on its inputs x, its softmax factor
    bounded by a constant. Sums, not means: a long response brings more by construction. The
    authors' own regulariser and truncation are not known; the identity and the run's context
    stand in for them.
    """

    dimension: Count | None

    @property
    def needs(self) -> Mapping[str, Signal]:
        """The moments of the last layer's inputs."""
        return {"token_information": TokenInformation(self.dimension)}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """Up to k rows; ties go to the smaller id."""
        rows = np.array(sorted(eligible, key=lambda row: signals.ids[row]), dtype=np.int64)
        triangles = signals["token_information"][rows]
        known = np.isfinite(triangles).all(axis=1)
        rooms = self.rooms(signals.sources, eligible, rows[known], k)
        picks, gains = lazy_greedy(triangles[known], k, rooms)
        unknown = sorted(rows[~known].tolist())
        return Selection(
            n=len(signals),
            indices=[int(rows[known][pick]) for pick in picks],
            scores=gains,
            excluded={"nothing to learn from": unknown} if unknown else {},
            notes=told(rooms),
        )


def square(triangle: np.ndarray) -> np.ndarray:
    """The symmetric matrices (… × h × h) whose upper triangles (… × h(h+1)/2) are given."""
    h = (math.isqrt(8 * triangle.shape[-1] + 1) - 1) // 2
    rows, columns = np.triu_indices(h)
    whole = np.zeros((*triangle.shape[:-1], h, h))
    whole[..., rows, columns] = whole[..., columns, rows] = triangle
    return whole


def lazy_greedy(
    triangles: np.ndarray, k: int, rooms: Rooms | None = None, block: int = 512
) -> tuple[list[int], list[float]]:
    """Picks and their gains Δ = log det(V + A) − log det V, with V ← V + A, V = I at first.

    ``triangles`` n × h(h+1)/2 are the upper triangles of the A.

    Gains only shrink, so a candidate is looked at again only while what it once brought is more
    than what the best one brings now, and never again once its group of ``rooms`` is full. Ties go
    to the smaller position.
    """
    if not len(triangles) or not k:
        return [], []
    blocks = [triangles[i : i + block] for i in range(0, len(triangles), block)]
    V = np.eye(square(triangles[0]).shape[-1])
    first = np.concatenate([_log_det(V + square(part)) for part in blocks])
    heap = [(-gain, x) for x, gain in enumerate(first.tolist())]
    heapq.heapify(heap)
    fresh = dict.fromkeys(range(len(heap)), 0)  # how many picks each gain accounts for
    places = Places(len(triangles), rooms, k)
    picks: list[int] = []
    gains: list[float] = []
    volume = 0.0
    with progress("greedy", places.k, "picks") as tell:
        while heap and len(picks) < places.k:
            negative, x = heapq.heappop(heap)
            if not places.open[x]:
                continue
            if fresh[x] < len(picks):
                fresh[x] = len(picks)
                gain = float(_log_det(V + square(triangles[x]))) - volume
                heapq.heappush(heap, (-gain, x))
                continue
            places.take(x)
            picks.append(x)
            gains.append(-negative)
            V = V + square(triangles[x])
            volume = float(_log_det(V))
            tell()
    return picks, gains


def _log_det(positive: np.ndarray) -> np.ndarray:
    return np.linalg.slogdet(positive)[1]
