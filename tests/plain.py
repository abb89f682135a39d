"""SPICE written down as its formulas stand, for the fast one to be compared with.

Nothing is updated from one pick to the next: each gain is solved for anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Step:
    """One pick; ``lead`` is by how much it beat the runner-up."""

    pick: int
    gain: float
    conflict: float
    lead: float


def information(G: np.ndarray, picks: list[int], alpha: float) -> float:
    """F(S) = log det(I + α Σ_S g gᵀ)."""
    S = G[picks]
    return float(np.linalg.slogdet(np.eye(G.shape[1]) + alpha * S.T @ S)[1])


def gains(G: np.ndarray, picks: list[int], alpha: float) -> np.ndarray:
    """Δ_x(S) = log(1 + α g_xᵀ (I + α Σ_S g gᵀ)⁻¹ g_x) of every row."""
    S = G[picks]
    M = np.eye(G.shape[1]) + alpha * S.T @ S
    solved = np.linalg.solve(M, G.T).T
    return np.array([np.log1p(alpha * g @ v) for g, v in zip(G, solved, strict=True)])


def conflicts(G: np.ndarray, picks: list[int]) -> np.ndarray:
    """c(x|S) = max(0, −cos(g_x, mean of S)) of every row, 0 for S = ∅."""
    if not picks:
        return np.zeros(len(G))
    mean = G[picks].mean(axis=0)
    lengths = np.linalg.norm(G, axis=1) * np.linalg.norm(mean) + 1e-8
    return np.maximum(0.0, -G @ mean / lengths)


def spice(
    G: np.ndarray,
    k: int,
    *,
    alpha: float,
    penalty: float,
    stop_ratio: float | None = None,
    stop_inclusive: bool = False,
) -> list[Step]:
    """The greedy, with no care for rows that are zero, equal or not finite."""
    steps: list[Step] = []
    picks: list[int] = []
    while len(picks) < min(k, len(G)):
        delta, c = gains(G, picks, alpha), conflicts(G, picks)
        score = delta - penalty * c
        score[picks] = -np.inf
        best = int(np.argmax(score))
        lead = score[best] - np.delete(score, best).max(initial=-np.inf)
        step = Step(best, delta[best], c[best], lead)
        first = steps[0].gain if steps else step.gain
        stops = stop_ratio is not None and step.gain <= stop_ratio * first
        if not stops or stop_inclusive:
            steps.append(step)
            picks.append(best)
        if stops:
            break
    return steps


def primal(G: np.ndarray, k: int, alpha: float, penalty: float) -> list[int]:
    """The same greedy by (I + α Σ g gᵀ)⁻¹, updated by Sherman and Morrison's formula."""
    M, s, picks = np.eye(G.shape[1]), np.zeros(G.shape[1]), []
    for _ in range(min(k, len(G))):
        r = alpha * np.einsum("nd,de,ne->n", G, M, G)
        length = np.linalg.norm(G, axis=1) * np.linalg.norm(s) + max(len(picks), 1) * 1e-8
        score = np.log1p(r) - penalty * np.maximum(0.0, -(G @ s) / length)
        score[picks] = -np.inf
        best = int(np.argmax(score))
        v = M @ G[best]
        M = M - alpha * np.outer(v, v) / (1 + r[best])
        s = s + G[best]
        picks.append(best)
    return picks


def lazy(G: np.ndarray, k: int, alpha: float, penalty: float) -> list[int]:
    """The same greedy on stale gains: no row whose old gain is below the best score is solved."""
    stale, picks = np.log1p(alpha * np.square(G).sum(axis=1)), []
    while len(picks) < min(k, len(G)):
        best, best_score, c = -1, -np.inf, conflicts(G, picks)
        for row in sorted(set(range(len(G))) - set(picks), key=lambda row: (-stale[row], row)):
            if stale[row] < best_score:
                break
            stale[row] = gains(G[[row, *picks]], list(range(1, len(picks) + 1)), alpha)[0]
            score = stale[row] - penalty * c[row]
            if score > best_score or (score == best_score and row < best):
                best, best_score = row, score
        picks.append(best)
    return picks
