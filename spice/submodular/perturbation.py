"""What the picks so far take from a row's gain, and how much that can be at most.

With K = GGᵀ, S the picks, m of them, and κ_x = K_Sx (arXiv 2601.23155, section 3):

    Δ_x(S) = base_x + ε_x(S),   base_x = log1p(α‖g_x‖²),   ε_x(S) ≤ 0
    ε_x(S) = log1p(−α² κ_xᵀ (I + αK_SS)⁻¹ κ_x / (1 + α‖g_x‖²))
    u_x(S) = α² ‖κ_x‖² / (1 + α‖g_x‖²)

    |ε_x(S)| ≤ (1 + α‖K_SS‖) u_x(S)              always: ``bound``
    |ε_x(S)| ≤ u_x(S) / (1 − ρ − α max‖g‖² ρ)    the paper's, ρ = α‖K_SS‖, where that is above 0

‖K_SS‖, the largest eigenvalue, is that of the information matrix of S. The first follows from
log1p(−v) ≥ −v/(1 − v) with v ≤ α²‖κ‖²/(1 + α‖g‖²) and 1 − v = (1 + r)/(1 + α‖g‖²), where
1 + r ≥ (1 + α‖g‖² + α‖K_SS‖)/(1 + α‖K_SS‖).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spice.submodular.kernel import Rows


@dataclass(frozen=True)
class Perturbation:
    """Of q rows outside m picks, all in float64: their ``gains`` Δ, ``bases``, ε, u and bounds.

    ``gains`` are differences of log-determinants, so that Δ = base + ε says something.
    ``published`` is the paper's bound, None where its denominator is not above 0.
    """

    rows: np.ndarray
    gains: np.ndarray
    bases: np.ndarray
    epsilon: np.ndarray
    u: np.ndarray
    bound: np.ndarray
    published: np.ndarray | None

    @property
    def error(self) -> float:
        """max |Δ − base − ε|."""
        return float(np.abs(self.gains - self.bases - self.epsilon).max(initial=0.0))


def perturbation(gradients: Rows, alpha: float, picks: Sequence[int]) -> Perturbation:
    """Of all rows of n × d ``gradients`` but the ``picks``; O(n m² + m³) beside the products."""
    n = len(gradients)
    S = np.array(picks, dtype=np.int64)
    rows = np.setdiff1d(np.arange(n), S)
    G = np.asarray(gradients[:], dtype=np.float64)
    squares = np.einsum("nd,nd->n", G, G)
    inner, kappa = alpha * G[S] @ G[S].T, G[rows] @ G[S].T
    whole = np.eye(len(S)) + inner
    alone = 1.0 + alpha * squares[rows]
    taken = alpha**2 * np.einsum("qm,mq->q", kappa, np.linalg.solve(whole, kappa.T)) / alone
    u = alpha**2 * np.square(kappa).sum(axis=1) / alone
    norm = float(np.linalg.eigvalsh(inner)[-1]) if len(S) else 0.0
    margin = 1.0 - norm - alpha * squares.max(initial=0.0) * norm
    return Perturbation(
        rows,
        _gains(whole, alpha * kappa, alone),
        np.log(alone),
        np.log1p(-taken),
        u,
        (1.0 + norm) * u,
        u / margin if margin > 0 else None,
    )


def _gains(whole: np.ndarray, beside: np.ndarray, alone: np.ndarray, block: int = 64) -> np.ndarray:
    """log det(I + αK) with each row added to S, less that of S; by determinants, in blocks."""
    m, found = len(whole), np.empty(len(beside))
    before = np.linalg.slogdet(whole)[1]
    for i in range(0, len(beside), block):
        part = slice(i, i + block)
        grown = np.empty((len(beside[part]), m + 1, m + 1))
        grown[:, :m, :m], grown[:, m, m] = whole, alone[part]
        grown[:, :m, m] = grown[:, m, :m] = beside[part]
        found[part] = np.linalg.slogdet(grown)[1] - before
    return found
