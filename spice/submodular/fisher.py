"""Fisher information of a set of gradients: the exact log-determinant, and what stands in for it.

Each form answers two questions: what would every candidate gain now, and what changes once one has
been picked. With S the picks so far and den_j = 1 + α Σ_S g_j² (``g4``: g_j⁴), over coordinates j:

    exact        Δ_x = log1p(α g_xᵀ (I + α Σ_S g gᵀ)⁻¹ g_x)    the theory (arXiv 2601.23155)
    diag         Δ_x = log1p(α Σ_j g_xj² / den_j)              not a set function: order matters
    diag_logdet  Δ_x = Σ_j log1p(α g_xj² / den_j)              adds up to Σ_j log(den_j) ≥ F(S)
    g4           Δ_x = log1p(α Σ_j g_xj² / den_j)              den in fourth powers, as published
    scalar       Δ_x = log1p(α‖g_x‖² / (1 + α))                never changes; published as an option
    norm         Δ_x = log1p(α‖g_x‖²)                          never changes; the published top-k

``exact`` has three ways to the same r. With * the pick:

    dual     Cholesky's factorisation of I + αK goes on by one column: with κ = αK_·* and C the
             columns so far, e = (κ − C C_*ᵀ)/√(1 + r_*), then r ← r − e² and C ← [C e]
    primal   Sherman and Morrison's update of M = (I + α Σ_S g gᵀ)⁻¹, d × d: with v = M g_*,
             r ← r − α² (Gv)²/(1 + r_*) and M ← M − α v vᵀ/(1 + r_*)
    plain    nothing is kept: r = α‖g‖² − α² K_·S (I + α K_SS)⁻¹ K_S·, solved anew at every pick
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from spice.submodular.kernel import Kernel

ROUNDING = 2e-15  # some ten units in the last place
HELD = 10**8  # up to so many squares are held, in 0.8 GB, instead of taken at every pick
TOGETHER = 8  # factors below 1e38 whose product is finite, so that one logarithm does for them
MODES = ("exact", "diag", "diag_logdet", "g4", "scalar", "norm")
OF_PRODUCTS = ("exact", "scalar", "norm")  # inner products are all that these depend on


class Fisher(Protocol):
    """What the greedy asks of a Fisher information of n candidates; all arrays are n numbers."""

    def gains(self) -> np.ndarray:
        """Δ_x(S) in nats."""
        ...

    def doubt(self) -> np.ndarray:
        """How far rounding may have moved each gain."""
        ...

    def add(self, pick: int, column: np.ndarray) -> None:
        """Take a pick into S; ``column`` is K_·pick."""
        ...


class ExactFisher:
    """The log-determinant itself: what its three ways have in common; arrays are n numbers.

    r is what is left of α‖g‖² after subtractions, so rounding leaves it uncertain by about
    ``ROUNDING`` times α‖g‖², however small it has become.
    """

    def __init__(self, kernel: Kernel, alpha: float) -> None:
        self.alike = kernel.alike
        self.alpha = alpha
        self.whole = alpha * kernel.diagonal[kernel.alike]  # r at S = ∅
        self.residual = self.whole.copy()  # r of each candidate, only ever shrinking

    def gains(self) -> np.ndarray:
        """log1p(r)."""
        return np.log1p(self.residual)

    def doubt(self) -> np.ndarray:
        """The uncertainty of r, carried through the logarithm."""
        return ROUNDING * self.whole / (1.0 + self.residual)


class DualFisher(ExactFisher):
    """Through K alone, a column per pick: n × k numbers."""

    def __init__(self, kernel: Kernel, k: int, alpha: float) -> None:
        super().__init__(kernel, alpha)
        # rows are the columns of C, so that each is contiguous
        self.columns = np.empty((min(k, len(kernel)), len(kernel)))
        self.picked = 0

    def add(self, pick: int, column: np.ndarray) -> None:
        """One more column of the Cholesky factor."""
        m = self.picked
        row = self.alpha * column - self.columns[:m, pick] @ self.columns[:m]
        row = row[self.alike] / np.sqrt(1.0 + self.residual[pick])
        self.columns[m] = row
        self.residual = np.maximum(self.residual - row * row, 0.0)
        self.picked += 1


class PrimalFisher(ExactFisher):
    """Through the inverse, d × d numbers: for many picks of short rows."""

    def __init__(self, gradients: np.ndarray, kernel: Kernel, alpha: float) -> None:
        super().__init__(kernel, alpha)
        self.gradients = gradients.astype(np.float64)
        self.inverse = np.eye(gradients.shape[1])

    def add(self, pick: int, column: np.ndarray) -> None:
        """One more rank-one update."""
        v = self.inverse @ self.gradients[pick]
        shrunk = self.alpha / (1.0 + self.residual[pick])
        taken = self.alpha * shrunk * np.square(self.gradients @ v)[self.alike]
        self.residual = np.maximum(self.residual - taken, 0.0)
        self.inverse -= shrunk * np.outer(v, v)


class PlainFisher(ExactFisher):
    """By a fresh solve for all candidates at every pick: the definition, to check others by."""

    def __init__(self, kernel: Kernel, alpha: float) -> None:
        super().__init__(kernel, alpha)
        self.picks: list[int] = []
        self.columns: list[np.ndarray] = []

    def add(self, pick: int, column: np.ndarray) -> None:
        """Solve with one more pick, whose ``column`` of K is n numbers."""
        self.picks.append(pick)
        self.columns.append(column)
        rows = np.array(self.columns)
        inner = np.eye(len(rows)) + self.alpha * rows[:, self.picks]
        taken = self.alpha**2 * np.einsum("mn,mn->n", rows, np.linalg.solve(inner, rows))
        self.residual = np.maximum(self.whole - taken[self.alike], 0.0)


class DiagonalFisher:
    """The diagonal forms, coordinate by coordinate over the gradients n × d, in float64."""

    def __init__(self, gradients: np.ndarray, kernel: Kernel, alpha: float, mode: str) -> None:
        self.gradients = gradients
        self.alike = kernel.alike
        self.alpha = alpha
        self.mode = mode
        self.denominator = np.ones(gradients.shape[1])
        small = gradients.size <= HELD
        self.squares = np.square(gradients, dtype=np.float64) if small else None

    def gains(self) -> np.ndarray:
        """One pass over the squares."""
        n, block = len(self.gradients), 256
        parts = [self._gains(slice(i, i + block)) for i in range(0, n, block)]
        return np.concatenate([np.empty(0), *parts])[self.alike]

    def _gains(self, rows: slice) -> np.ndarray:
        if self.squares is None:
            squares = np.square(self.gradients[rows], dtype=np.float64)
        else:
            squares = self.squares[rows]
        if self.mode == "diag_logdet":
            return _log_of_product(1.0 + squares * (self.alpha / self.denominator))
        return np.log1p(self.alpha * (squares @ (1.0 / self.denominator)))

    def doubt(self) -> np.ndarray:
        """Sums of squares lose nothing but the last places, and equal rows share one value."""
        return np.zeros(len(self.gradients))

    def add(self, pick: int, column: np.ndarray) -> None:
        """Raise the denominator."""
        power = 4 if self.mode == "g4" else 2
        self.denominator += self.alpha * self.gradients[pick].astype(np.float64) ** power


def _log_of_product(factors: np.ndarray) -> np.ndarray:
    """Σ_j log of b × d factors, b; a logarithm takes as long as many products."""
    width = factors.shape[1] // TOGETHER
    total = np.log(factors[:, TOGETHER * width :]).sum(axis=1)
    product = factors[:, :width].copy()
    for place in range(1, TOGETHER):
        product *= factors[:, place * width : (place + 1) * width]
    return total + np.log(product).sum(axis=1)


class ConstantFisher:
    """Gains that no pick changes, n numbers: a ranking by ‖g‖, whatever has been chosen."""

    def __init__(self, kernel: Kernel, alpha: float, mode: str) -> None:
        shrunk = alpha / (1.0 + alpha) if mode == "scalar" else alpha
        self.values = np.log1p(shrunk * kernel.diagonal[kernel.alike])

    def gains(self) -> np.ndarray:
        """The same at every step."""
        return self.values

    def doubt(self) -> np.ndarray:
        """None: equal rows share one value."""
        return np.zeros_like(self.values)

    def add(self, pick: int, column: np.ndarray) -> None:
        """Nothing changes."""


def information(kernel: Kernel, picks: Sequence[int], alpha: float) -> float:
    """F(S) = log det(I + α K_SS) in nats."""
    if not picks:
        return 0.0
    within = np.array([kernel.column(pick)[list(picks)] for pick in picks])
    return float(np.linalg.slogdet(np.eye(len(picks)) + alpha * within)[1])
