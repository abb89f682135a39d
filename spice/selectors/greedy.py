"""Exact greedy maximisation of the Fisher log-determinant, less a conflict penalty.

With K = GGᵀ and S the picks so far (arXiv 2601.23155, section 3):

    F(S)   = log det(I + α K_SS)                                 information, nats
    Δ_x(S) = F(S + x) − F(S) = log1p(r_x),   r_x = α g_xᵀ (I + α Σ_S g gᵀ)⁻¹ g_x
    c(x|S) = max(0, −cos(g_x, ḡ_S)),  ḡ_S the mean of the picks; 0 for S = ∅
    score  = Δ_x(S) − λ c(x|S)

Each pick * is one step of a Cholesky factorisation of I + αK: with κ = αK_·* and C the columns so
far, e = (κ − C C_*ᵀ)/√(1 + r_*), then r ← r − e² and C ← [C e]. κ also carries all that the
conflict needs, so a pick costs one column of K and n·m multiplications, all in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

ETA = 1e-8  # keeps the cosine finite where the picks cancel each other
TIE = 1e-12  # scores closer than this (relative to the best, at least to 1) are one score
RIVALS = 10  # the penalty's leverage is read off this many best candidates


@dataclass(frozen=True)
class Kernel:
    """The inner products of n gradients: ``column(x)`` is K_·x (n), ``diagonal`` is ‖g‖² (n)."""

    diagonal: np.ndarray
    column: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.diagonal)


@dataclass
class GreedyTrace:
    """What the greedy saw, one entry per pick.

    ``conflicting`` is the share of candidates with c > 0; ``leverage`` is λ × the spread of the
    ten best candidates' conflicts over the gap of their gains: far below 1, λ cannot change a pick.
    """

    picks: list[int] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    conflicts: list[float] = field(default_factory=list)
    conflicting: list[float] = field(default_factory=list)
    leverage: list[float] = field(default_factory=list)


def gram_kernel(gradients: np.ndarray, block: int = 4096) -> Kernel:
    """The whole of K in float64, summed over blocks of coordinates: n² × 8 bytes."""
    n, d = gradients.shape
    gram = np.zeros((n, n))
    for start in range(0, d, block):
        part = gradients[:, start : start + block].astype(np.float64)
        gram += part @ part.T
    return Kernel(np.diagonal(gram).copy(), lambda x: gram[:, x])


def streaming_kernel(gradients: np.ndarray, block: int = 1024) -> Kernel:
    """K column by column, for pools whose K would not fit: one pass over G per pick."""
    n = len(gradients)

    def column(x: int) -> np.ndarray:
        pick = gradients[x].astype(np.float64)
        parts = (gradients[i : i + block].astype(np.float64) @ pick for i in range(0, n, block))
        return np.concatenate(list(parts))

    squares = [
        np.square(gradients[i : i + block].astype(np.float64)).sum(axis=1)
        for i in range(0, n, block)
    ]
    return Kernel(np.concatenate(squares), column)


def greedy(
    kernel: Kernel,
    k: int,
    *,
    alpha: float,
    penalty: float,
    stop_ratio: float | None = None,
    stop_inclusive: bool = False,
) -> GreedyTrace:
    """Pick up to k of n, ties to the smaller position.

    ``stop_ratio`` ω ends the run at the first pick t with Δ_t ≤ ω Δ_1, a test on the gain and not
    on the score; that pick is kept only if ``stop_inclusive``.
    """
    n = len(kernel)
    residual = alpha * kernel.diagonal  # r of each candidate, only ever shrinking
    norms = np.sqrt(kernel.diagonal)
    columns = np.empty((min(k, n), n))  # rows are the columns of C, so that each is contiguous
    along = np.zeros(n)  # g_x · Σ_S g
    norm_of_sum = 0.0
    free = np.ones(n, dtype=bool)
    trace = GreedyTrace()
    for m in range(min(k, n)):
        gains = np.log1p(residual)
        conflicts = _conflicts(along, norms, norm_of_sum, m)
        best = _first_best(np.where(free, gains - penalty * conflicts, -np.inf))
        stops = stop_ratio is not None and gains[best] <= stop_ratio * (
            trace.gains[0] if m else gains[best]
        )
        if stops and not stop_inclusive:
            break
        _record(trace, best, gains, conflicts, free, penalty)
        if stops:
            break
        kappa = kernel.column(best)
        row = alpha * kappa - columns[:m, best] @ columns[:m]
        row /= np.sqrt(1.0 + residual[best])
        columns[m] = row
        residual = np.maximum(residual - row * row, 0.0)
        norm_of_sum = np.sqrt(max(norm_of_sum**2 + 2.0 * along[best] + kernel.diagonal[best], 0.0))
        along = along + kappa
        free[best] = False
    return trace


def _conflicts(along: np.ndarray, norms: np.ndarray, norm_of_sum: float, m: int) -> np.ndarray:
    """c(x|S) of all x; with the sum in place of the mean, η is multiplied by m."""
    if m == 0:
        return np.zeros_like(along)
    return np.clip(-along / (norms * norm_of_sum + m * ETA), 0.0, 1.0) + 0.0  # no -0.0


def _first_best(scores: np.ndarray) -> int:
    """The smallest position among the best scores, those within rounding of the best included."""
    best = scores.max()
    return int(np.argmax(scores >= best - TIE * max(1.0, abs(best))))


def _record(
    trace: GreedyTrace,
    best: int,
    gains: np.ndarray,
    conflicts: np.ndarray,
    free: np.ndarray,
    penalty: float,
) -> None:
    trace.picks.append(best)
    trace.gains.append(float(gains[best]))
    trace.conflicts.append(float(conflicts[best]))
    if len(trace.picks) == 1:
        return  # with nothing chosen yet there is no conflict to speak of
    candidates = np.flatnonzero(free)
    trace.conflicting.append(float(np.mean(conflicts[candidates] > 0)))
    rivals = candidates[np.argsort(-gains[candidates], kind="stable")[:RIVALS]]
    gap = np.ptp(gains[rivals])
    spread = penalty * np.ptp(conflicts[rivals])
    trace.leverage.append(float(spread / gap) if gap > 0 else (np.inf if spread > 0 else 0.0))
