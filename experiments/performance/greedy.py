"""The greedy's updates beside solving for every candidate anew."""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from timing import medians, table

from spice.selectors.fisher import DualFisher
from spice.selectors.greedy import greedy
from spice.selectors.kernel import gram_kernel, streaming_kernel

ALPHA = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    for n, d, k in ((120, 2000, 12), (400, 200, 20)):
        G = pool(n, d)
        ways = {
            "updates, K held whole": partial(ours, gram_kernel, G, k),
            "updates, K by columns": partial(ours, streaming_kernel, G, k),
            "a solve per candidate": partial(solves, G, k),
        }
        picks = [way() for way in ways.values()]
        assert picks[0] == picks[1] == picks[2]
        print(table(f"n = {n:,}, d = {d:,}, k = {k}", medians(ways, repeats)))
    for n, d, k in ((2000, 5000, 200), (8000, 1024, 800)):
        G = pool(n, d)
        ways = {
            "updates, K held whole": partial(ours, gram_kernel, G, k),
            "updates, K by columns": partial(ours, streaming_kernel, G, k),
        }
        print(table(f"n = {n:,}, d = {d:,}, k = {k}", medians(ways, min(repeats, 3))))


def pool(n: int, d: int) -> np.ndarray:
    """Rows of mean squared norm 1, with a direction in common."""
    rng = np.random.default_rng(0)
    G = rng.normal(size=(n, d)) + 0.3 * rng.normal(size=d)
    return (G / np.sqrt(np.square(G).sum(axis=1).mean())).astype(np.float32)


def ours(make_kernel, G: np.ndarray, k: int) -> list[int]:
    kernel = make_kernel(G)
    return greedy(kernel, DualFisher(kernel, k, ALPHA), k, penalty=0.1).picks


def solves(G: np.ndarray, k: int) -> list[int]:
    """Δ_x = log1p(α K_xx − α² K_xS (I + α K_SS)⁻¹ K_Sx), each time from K alone."""
    G = G.astype(np.float64)
    K, picks = G @ G.T, []
    for _ in range(k):
        s = G[picks].mean(axis=0) if picks else np.zeros(G.shape[1])
        best, score = -1, -np.inf
        for x in set(range(len(G))) - set(picks):
            M, v = np.eye(len(picks)) + ALPHA * K[np.ix_(picks, picks)], K[picks, x]
            gain = np.log1p(ALPHA * K[x, x] - ALPHA**2 * v @ np.linalg.solve(M, v))
            cosine = G[x] @ s / (np.sqrt(K[x, x]) * np.sqrt(s @ s) + 1e-8)
            if gain - 0.1 * max(0.0, -cosine) > score:
                best, score = x, gain - 0.1 * max(0.0, -cosine)
        picks.append(best)
    return picks


if __name__ == "__main__":
    main()
