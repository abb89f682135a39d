"""Greedy maximisation of Fisher information, less a conflict penalty.

With K = GGᵀ and S the picks so far (arXiv 2601.23155, section 3):

    F(S)   = log det(I + α K_SS)                                 information, nats
    Δ_x(S) = F(S + x) − F(S) = log1p(r_x),   r_x = α g_xᵀ (I + α Σ_S g gᵀ)⁻¹ g_x
    c(x|S) = max(0, −cos(g_x, ḡ_S)),  ḡ_S the mean of the picks; 0 for S = ∅
    score  = Δ_x(S) − λ c(x|S)

:mod:`spice.submodular.fisher` has Δ and its stand-ins. A column of K per pick carries all that the
conflict needs, so a pick costs that column and n·m multiplications, all in float64.

Scores closer than their uncertainties are one score. Exact copies of a row have one value
throughout, although BLAS rounds an inner product differently from one position to the next: their
order is that of their positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spice.progress import counted
from spice.submodular.fisher import ROUNDING, Fisher
from spice.submodular.kernel import Kernel
from spice.submodular.rooms import Places, Rooms

ETA = 1e-8  # keeps the cosine finite where the picks cancel each other
LOOKS = 32  # moments of a run at which all gains are noted, besides its end
BESIDE = 64  # columns' worth of what a pick costs beside the columns of those before it
RIVALS = 10  # the penalty's leverage is read off this many best candidates


@dataclass(frozen=True)
class Rounds:
    """How picks came out of two rounds (:mod:`spice.submodular.two_rounds`) over ``count`` parts.

    ``largest_part`` and ``union`` are rows that were chosen from, ``of_union`` and ``of_best_part``
    F of what was, and ``taken`` which of them it is. ``stopped``: runs ended by ω.
    """

    count: int
    largest_part: int
    union: int
    of_union: float
    of_best_part: float
    taken: str
    stopped: bool


@dataclass
class GreedyTrace:
    """What the greedy saw, one entry per pick.

    ``leverage`` is λ × the spread of the
    ten best candidates' conflicts over the gap of their gains: far below 1, λ cannot change a pick.
    ``later`` has, for some t, the largest gains of what was left after t picks, falling; with
    rooms those that one set can have together (:meth:`spice.submodular.rooms.Places.ahead`).
    ``drift`` is the largest error of a gain that an exact recomputation found, None without one.
    ``complete`` says that nothing was left to be picked, ``operations`` how many floating-point
    operations products of matrices took, where that is counted. ``rounds`` are there where there
    was more than one greedy.
    """

    picks: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    conflicts: list[float] = field(default_factory=list)
    leverage: list[float] = field(default_factory=list)
    later: list[tuple[int, np.ndarray]] = field(default_factory=list, compare=False)
    drift: float | None = None
    complete: bool = False
    operations: float | None = field(default=None, compare=False)
    rounds: Rounds | None = None

    def prefix(self, k: int) -> GreedyTrace:
        """The run as it stood after k picks."""
        if k >= len(self.picks):
            return self
        after = max(k - 1, 0)
        return GreedyTrace(
            self.picks[:k],
            self.scores[:k],
            self.gains[:k],
            self.conflicts[:k],
            self.leverage[:after],
            [(t, gains) for t, gains in self.later if t <= k],
            self.drift,
        )

    def decays(self, ratio: float) -> bool:
        """Whether some gain is at most ``ratio`` times the first."""
        return any(gain <= ratio * self.gains[0] for gain in self.gains)

    def stopped(self, ratio: float, inclusive: bool, first: float | None = None) -> GreedyTrace:
        """The run as it would have ended with the stopping rule.

        Gains are measured by the ``first`` pick's, the run's own if it is not given.
        """
        least = ratio * (self.gains[0] if first is None and self.gains else first or 0.0)
        decayed = (t for t, gain in enumerate(self.gains) if gain <= least)
        return self.prefix(next(decayed, len(self.picks)) + inclusive)


def greedy(
    kernel: Kernel,
    fisher: Fisher,
    k: int,
    *,
    penalty: float,
    stop_ratio: float | None = None,
    stop_inclusive: bool = False,
    eta: float = ETA,
    rooms: Rooms | None = None,
) -> GreedyTrace:
    """Pick up to k of n, ties to the smaller position.

    ``stop_ratio`` ω ends the run at the first pick t with Δ_t ≤ ω Δ_1, a test on the gain and not
    on the score; that pick is kept only if ``stop_inclusive``. Where a group of ``rooms`` is full,
    what is left of it is no candidate any more.
    """
    norms = np.sqrt(kernel.diagonal[kernel.alike])
    along = np.zeros(len(kernel))  # g_x · Σ_S g
    places, trace = Places(len(kernel), rooms, k), GreedyTrace()
    looks = moments(places.k)
    for m in counted(range(places.k), "greedy", "picks", lambda m: m + BESIDE):
        gains = fisher.gains()
        if m in looks:
            trace.later.append((m, places.ahead(gains[places.free])))
        length2, weight = along[trace.picks].sum(), norms[trace.picks].sum()
        conflicts, blur = conflicts_of(along, norms, length2, weight, m, eta)
        doubt = fisher.doubt() + ROUNDING * penalty * blur
        best = first_best(np.where(places.open, gains - penalty * conflicts, -np.inf), doubt)
        stops = decayed(trace, gains[best], stop_ratio)
        if not stops or stop_inclusive:
            record(trace, best, best, gains, conflicts, places.open, penalty)
        if stops:
            break
        column = kernel.column(best)
        fisher.add(best, column)
        along += column[kernel.alike]
        places.take(best)
    return _finished(trace, fisher, places)


def _finished(trace: GreedyTrace, fisher: Fisher, places: Places) -> GreedyTrace:
    """The run with what is left at its end."""
    trace.later.append((len(trace.picks), places.ahead(fisher.gains()[places.free])))
    trace.complete = not places.open.any()
    return trace


def decayed(trace: GreedyTrace, gain: float, ratio: float | None) -> bool:
    """Whether the next pick's gain is at most ``ratio`` times the first pick's, if that is asked.

    A first pick is measured by itself.
    """
    if ratio is None:
        return False
    return bool(gain <= ratio * (trace.gains[0] if trace.gains else gain))


def moments(k: int) -> set[int]:
    """When to look at all gains."""
    return {round(t) for t in np.linspace(0, k, LOOKS + 1)}


def conflicts_of(
    along: np.ndarray, norms: np.ndarray, length2: float, weight: float, m: int, eta: float
) -> tuple[np.ndarray, np.ndarray]:
    """c(x|S) of all x, and the size of the terms that cancelled in it; n each.

    ``along`` (n) is g_x · Σ_S g, ``norms`` (n) ‖g_x‖, ``length2`` ‖Σ_S g‖², ``weight`` Σ_S ‖g‖. The
    mean's length drops out of a cosine, so the sum stands in its place and η is multiplied by m.
    """
    if not m:
        return np.zeros_like(along), np.zeros_like(along)
    product = norms * np.sqrt(max(length2, 0.0)) + m * eta
    conflicts = np.clip(-along / product, 0.0, 1.0) + 0.0  # no -0.0
    return conflicts, norms * weight / product * (conflicts > 0)


def first_best(scores: np.ndarray, doubt: np.ndarray) -> int:
    """The smallest position among ``scores`` n that cannot be told from the best one.

    ``doubt`` n is how far each may be off.
    """
    best = int(np.argmax(scores))
    return int(np.argmax(scores + doubt >= scores[best] - doubt[best]))


def record(
    trace: GreedyTrace,
    pick: int,
    best: int,
    gains: np.ndarray,
    conflicts: np.ndarray,
    free: np.ndarray,
    penalty: float,
) -> None:
    """Note a pick, at place ``best`` of the arrays: n numbers, or a shortlist's."""
    trace.picks.append(pick)
    trace.scores.append(float(gains[best] - penalty * conflicts[best]))
    trace.gains.append(float(gains[best]))
    trace.conflicts.append(float(conflicts[best]))
    if len(trace.picks) == 1:
        return  # with nothing chosen yet there is no conflict to speak of
    candidates = np.flatnonzero(free)
    rivals = candidates[np.argsort(-gains[candidates], kind="stable")[:RIVALS]]
    gap = max(np.ptp(gains[rivals]), ROUNDING)  # JSON knows no infinity
    trace.leverage.append(float(penalty * np.ptp(conflicts[rivals]) / gap))
