"""How diverse a set of rows is, by measures of others.

With rows x of length one, D_ij = 1 − x_i·x_j, and σ_i = (mean squared distance from x_i to its K
nearest rows of a reference, itself left out, + 1e-9)^(−½):

    NovelSum   mean_i Σ_r σ_i D_i(r) / r  ÷  Σ_r 1/r,   D_i(r) the r-th smallest, D_ii = 0 first
    LDD        −log det K / n,   K_ij = exp(−γ ‖x_i − x_j‖²): the gap to n orthogonal rows
    coverage   the share of a corpus's clusters (k-means) of which a set has a row

NovelSum is arXiv 2502.17184 (larger is more diverse), the log-determinant distance arXiv 2402.02318
(smaller is); what γ and which features were taken is each paper's own.
"""

from __future__ import annotations

import numpy as np

NEAREST = 10
CLOSEST = 1e-9
BLOCK = 1024  # rows whose distances are in hand at a time
RIDGE = 1e-10  # of K, for rows that are alike


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length one, n × d in float64; a row without direction stays zero."""
    rows = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def density_weights(rows: np.ndarray, reference: np.ndarray, nearest: int = NEAREST) -> np.ndarray:
    """σ of n × d unit ``rows`` by their neighbours among m × d of a ``reference``, n.

    Rows are in the reference themselves, and their first hit, which is that, is left out.
    """
    found = np.empty(len(rows))
    count = min(nearest, len(reference) - 1)
    for i in range(0, len(rows), BLOCK):
        part = slice(i, i + BLOCK)
        squares = np.maximum(2.0 - 2.0 * rows[part] @ reference.T, 0.0)
        hits = np.sort(np.partition(squares, count, axis=1)[:, : count + 1], axis=1)[:, 1:]
        found[part] = (hits.mean(axis=1) + CLOSEST) ** -0.5
    return found


def novel_sum(rows: np.ndarray, weights: np.ndarray | None = None) -> float:
    """NovelSum of n × d unit ``rows``, with ``weights`` σ (n), or without density."""
    n = len(rows)
    if not n:
        return 0.0
    sigma = np.ones(n) if weights is None else weights
    ranks = 1.0 / np.arange(1, n + 1)
    total = 0.0
    for i in range(0, n, BLOCK):
        part = slice(i, i + BLOCK)
        distances = np.maximum(1.0 - rows[part] @ rows.T, 0.0)
        distances[np.arange(len(distances)), np.arange(n)[part]] = 0.0
        distances.sort(axis=1)
        total += float(sigma[part] @ distances @ ranks)
    return total / (n * ranks.sum())


def log_determinant_distance(rows: np.ndarray, gamma: float = 1.0) -> float:
    """LDD of n × d unit ``rows`` with an RBF kernel, nats a row; near 0 where all are far apart."""
    n = len(rows)
    if not n:
        return 0.0
    kernel = np.exp(-gamma * np.maximum(2.0 - 2.0 * rows @ rows.T, 0.0))
    np.fill_diagonal(kernel, 1.0 + RIDGE)
    return float(-np.linalg.slogdet(kernel)[1] / n)


def coverage(clusters: np.ndarray, picks: np.ndarray) -> float:
    """Share of the ``clusters`` (n numbers) of which some of ``picks`` are."""
    return len(np.unique(clusters[picks])) / max(len(np.unique(clusters)), 1)
