"""A pool as a map: its gradients at unit length, on the two directions in which they differ most.

With X the centred unit gradients (m × d), the map is U Σ of their singular value decomposition X =
U Σ Vᵀ, the first two columns. U is found by subspace iteration (Halko, Martinsson and Tropp 2011)
on X Xᵀ, whose products are summed over blocks of coordinates: no more than a block of the
gradients is held, and no direction of d numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spice.submodular.kernel import Rows, Subset, squared_norms

FITTED = 8_192  # rows that decide the directions; of more, so many are drawn
BESIDE = 10  # directions that are iterated beside the two, so that these converge
PASSES = 8  # over the gradients
HELD = 2**24  # numbers of a block


@dataclass(frozen=True)
class Map:
    """``points`` are m × 2, NaN for rows without direction; ``shares`` of the variance, two."""

    points: np.ndarray
    shares: tuple[float, float]


def gradient_map(gradients: Rows, shown: np.ndarray, seed: int = 0) -> Map | None:
    """Where the rows ``shown`` (m positions) lie among n × d ``gradients``.

    The directions are those of the whole pool, or of :data:`FITTED` rows of it drawn from ``seed``,
    and do not depend on what is shown. None where less than three rows have a direction.
    """
    squares = squared_norms(gradients)
    usable = np.flatnonzero(np.isfinite(squares) & (squares > 0))
    if len(usable) < 3:
        return None
    rng = np.random.default_rng(seed)
    fitted = np.sort(rng.permutation(usable)[:FITTED])
    U, values, total = _principal(gradients, fitted, np.sqrt(squares), rng)
    points = np.full((len(shown), 2), np.nan)
    there = np.isin(shown, usable)
    points[there] = _projected(gradients, fitted, shown[there], np.sqrt(squares), U, values)
    shares = values / total if total > 0 else np.zeros(2)
    return Map(points, (float(shares[0]), float(shares[1])))


def _principal(
    gradients: Rows, fitted: np.ndarray, norms: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """U (m × 2), the two variances Σ² and the sum of all of them."""
    m = len(fitted)
    Q = np.linalg.qr(rng.standard_normal((m, min(m, 2 + BESIDE))))[0]
    for _ in range(PASSES):
        product, total = np.zeros_like(Q), 0.0
        for X, _ in _blocks(gradients, fitted, norms):
            product += X @ (X.T @ Q)
            total += float(np.einsum("nd,nd->", X, X))
        values, V = np.linalg.eigh(Q.T @ product)
        best = V[:, ::-1]
        U, values = Q @ best, values[::-1]
        Q = np.linalg.qr(product)[0]
    U = U[:, :2] * np.where(U[np.abs(U[:, :2]).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    return U, np.clip(values[:2], 0.0, None), total


def _projected(
    gradients: Rows,
    fitted: np.ndarray,
    shown: np.ndarray,
    norms: np.ndarray,
    U: np.ndarray,
    values: np.ndarray,
) -> np.ndarray:
    """X' V of the rows ``shown``, with V = Xᵀ U Σ⁻¹ a block at a time; m × 2."""
    found = np.zeros((len(shown), 2))
    scale = np.sqrt(np.where(values > 0, values, np.inf))
    for i in range(0, len(shown), FITTED):
        part = shown[i : i + FITTED]
        for X, (columns, mean) in _blocks(gradients, fitted, norms):
            others = np.asarray(gradients[part, columns], dtype=np.float64)
            found[i : i + FITTED] += (others / norms[part, None] - mean) @ (X.T @ U / scale)
    return found


def _blocks(
    gradients: Rows, rows: np.ndarray, norms: np.ndarray
) -> Iterator[tuple[np.ndarray, tuple[slice, np.ndarray]]]:
    """Columns of X for ``rows`` (m), each block with which they are and what was their mean."""
    subset = Subset(gradients, rows)
    d = gradients.shape[1]
    width = max(1, HELD // len(rows))
    for start in range(0, d, width):
        columns = slice(start, min(start + width, d))
        X = np.asarray(subset[:, columns], dtype=np.float64) / norms[rows, None]
        mean = X.mean(axis=0)
        yield X - mean, (columns, mean)
