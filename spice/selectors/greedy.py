"""Exact greedy maximisation of the Fisher log-determinant, less a conflict penalty.

With K = GGᵀ and S the picks so far (arXiv 2601.23155, section 3):

    F(S)   = log det(I + α K_SS)                                 information, nats
    Δ_x(S) = F(S + x) − F(S) = log1p(r_x),   r_x = α g_xᵀ (I + α Σ_S g gᵀ)⁻¹ g_x
    c(x|S) = max(0, −cos(g_x, ḡ_S)),  ḡ_S the mean of the picks; 0 for S = ∅
    score  = Δ_x(S) − λ c(x|S)

Each pick * is one step of a Cholesky factorisation of I + αK: with κ = αK_·* and C the columns so
far, e = (κ − C C_*ᵀ)/√(1 + r_*), then r ← r − e² and C ← [C e]. κ also carries all that the
conflict needs, so a pick costs one column of K and n·m multiplications, all in float64.

r is what is left of α‖g‖² after subtractions, so rounding leaves it uncertain by about ``ROUNDING``
times α‖g‖², however small it has become. Scores closer than their uncertainties are one score.
Exact copies of a row have one value throughout, although BLAS rounds an inner product differently
from one position to the next: their order is that of their positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

ETA = 1e-8  # keeps the cosine finite where the picks cancel each other
ROUNDING = 2e-15  # some ten units in the last place
RIVALS = 10  # the penalty's leverage is read off this many best candidates


@dataclass(frozen=True)
class Kernel:
    """The inner products of n gradients: ``column(x)`` is K_·x (n), ``diagonal`` is ‖g‖² (n).

    ``alike`` (n) is the position of each row's first exact copy, its own if there is none before.
    """

    diagonal: np.ndarray
    column: Callable[[int], np.ndarray]
    alike: np.ndarray

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
    return Kernel(np.diagonal(gram).copy(), lambda x: gram[x], first_copies(gradients))


def streaming_kernel(gradients: np.ndarray, block: int = 1024) -> Kernel:
    """K column by column, for pools whose K would not fit: one pass over G per pick."""
    n = len(gradients)
    blocks = [slice(i, i + block) for i in range(0, n, block)]

    def column(x: int) -> np.ndarray:
        pick, values = gradients[x].astype(np.float64), np.empty(n)
        for rows in blocks:
            values[rows] = gradients[rows].astype(np.float64) @ pick
        return values

    squares = np.empty(n)
    for rows in blocks:
        squares[rows] = np.square(gradients[rows], dtype=np.float64).sum(axis=1)
    return Kernel(squares, column, first_copies(gradients))


def first_copies(gradients: np.ndarray) -> np.ndarray:
    """For each row the position of the first that equals it, number by number."""
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(row + 0.0, digest_size=16).digest() for row in gradients)  # no -0.0
    return np.array([seen.setdefault(key, x) for x, key in enumerate(digests)], dtype=np.int64)


def greedy(
    kernel: Kernel,
    k: int,
    *,
    alpha: float,
    penalty: float,
    stop_ratio: float | None = None,
    stop_inclusive: bool = False,
    eta: float = ETA,
) -> GreedyTrace:
    """Pick up to k of n, ties to the smaller position.

    ``stop_ratio`` ω ends the run at the first pick t with Δ_t ≤ ω Δ_1, a test on the gain and not
    on the score; that pick is kept only if ``stop_inclusive``.
    """
    n = len(kernel)
    squares = kernel.diagonal[kernel.alike]
    whole = alpha * squares  # r at S = ∅
    residual = whole.copy()  # r of each candidate, only ever shrinking
    norms = np.sqrt(squares)
    columns = np.empty((min(k, n), n))  # rows are the columns of C, so that each is contiguous
    along = np.zeros(n)  # g_x · Σ_S g
    free = np.ones(n, dtype=bool)
    trace = GreedyTrace()
    for m in range(min(k, n)):
        gains = np.log1p(residual)
        conflicts, doubt = _conflicts(along, norms, trace.picks, eta)
        doubt = ROUNDING * (whole / (1.0 + residual) + penalty * doubt)
        best = _first_best(np.where(free, gains - penalty * conflicts, -np.inf), doubt)
        first = trace.gains[0] if m else gains[best]
        stops = stop_ratio is not None and gains[best] <= stop_ratio * first
        if stops and not stop_inclusive:
            break
        _record(trace, best, gains, conflicts, free, penalty)
        if stops:
            break
        kappa = kernel.column(best)
        row = alpha * kappa - columns[:m, best] @ columns[:m]
        row = row[kernel.alike] / np.sqrt(1.0 + residual[best])
        columns[m] = row
        residual = np.maximum(residual - row * row, 0.0)
        along += kappa[kernel.alike]
        free[best] = False
    return trace


def _conflicts(
    along: np.ndarray, norms: np.ndarray, picks: list[int], eta: float
) -> tuple[np.ndarray, np.ndarray]:
    """c(x|S) of all x, and the size of the terms that cancelled in it.

    The mean's length drops out of a cosine, so the sum stands in its place and η is multiplied
    by m.
    """
    if not picks:
        return np.zeros_like(along), np.zeros_like(along)
    length = np.sqrt(max(along[picks].sum(), 0.0))  # ‖Σ_S g‖
    product = norms * length + len(picks) * eta
    conflicts = np.clip(-along / product, 0.0, 1.0) + 0.0  # no -0.0
    return conflicts, norms * norms[picks].sum() / product * (conflicts > 0)


def _first_best(scores: np.ndarray, doubt: np.ndarray) -> int:
    """The smallest position among the scores that cannot be told from the best one."""
    best = int(np.argmax(scores))
    return int(np.argmax(scores + doubt >= scores[best] - doubt[best]))


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
    gap = max(np.ptp(gains[rivals]), ROUNDING)  # JSON knows no infinity
    trace.leverage.append(float(penalty * np.ptp(conflicts[rivals]) / gap))
