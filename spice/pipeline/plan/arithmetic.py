"""What a greedy and reliability weights take, from smaller ones that are timed."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from spice.gradients.agreement import BLOCK, COLUMNS, SORTED, agreement, cosines
from spice.pipeline.plan.probe import quickest
from spice.submodular.kernel import squared_norms
from spice.submodular.objective import Objective

SIDE = 1024  # of the product that a machine's speed is told by
BLOCKED = 1.5  # times as long as plain products: 1.2 to 1.8 in experiments/performance/LOG.md


class GreedyRun(NamedTuple):
    """k of n rows of d coordinates, by a form of the information and a way to maximise it."""

    n: int
    d: int
    k: int
    form: str
    way: str

    @property
    def operations(self) -> float:
        """(2n + k)kd in blocks, else 2n²d + nk², and nkd for forms other than ``exact``."""
        n, d, k = float(self.n), self.d, self.k
        if self.form != "exact":
            return n * k * d
        return (2.0 * n + k) * k * d if self.way == "blocked" else 2.0 * n**2 * d + n * k**2

    @property
    def bytes(self) -> int:
        """Gradients and factor of a run in blocks in float32, or K and factor in float64."""
        n, d, k = self.n, self.d, self.k
        return 4 * n * (d + k) if self.way == "blocked" else 8 * n * (n + k) + 4 * n * d


def greedy_seconds(run: GreedyRun) -> float:
    """One greedy run, from a smaller one: what each pick takes beside products of matrices stays.

    Runs that do not go in blocks are scaled by their operations, most of which are no such
    products. Gradients are drawn normal, of lengths that are log-normal; real ones may take more
    steps, or fewer.
    """
    n, d, k, form, way = run
    rows, columns = min(n, 2000), min(d, 1024)
    picks = max(min(k, rows), 1) if n == rows else max(round(k * rows / n), 1)
    rng = np.random.default_rng(0)
    G = rng.standard_normal((rows, columns), dtype=np.float32)
    G *= np.exp(rng.standard_normal((rows, 1), dtype=np.float32) / 2)
    squares = squared_norms(G)
    problem = Objective(G, squares, float(1 / squares.mean()), 1e-8, form, way, certified=False)
    start = time.perf_counter()
    problem.maximise(picks, 0.0)
    seconds = time.perf_counter() - start
    tried = GreedyRun(rows, columns, picks, form, way)
    if way != "blocked":
        return seconds * run.operations / tried.operations
    rate = product_speed()
    beside = max(seconds - tried.operations / rate, 0.0) / picks
    return k * beside + BLOCKED * run.operations / rate


def product_speed() -> float:
    """Operations a second of a product of matrices in float32."""
    import torch

    square = torch.ones(SIDE, SIDE, device="cuda" if torch.cuda.is_available() else "cpu")

    def multiply() -> float:
        return float((square @ square)[0, 0])  # read, so that a GPU has done it

    return 2.0 * SIDE**3 / quickest(multiply)


def weights_seconds(pairs: int, d: int) -> float:
    """So many cosines of rows of d coordinates and their sorting, scaled up from a million."""
    rows, columns = 1000, min(d, 2048)
    G = np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
    every, alone = np.arange(rows), np.zeros(rows, dtype=np.int64)
    cosines(G[:10], every[:10], every[:10])  # torch's import is not timed
    start = time.perf_counter()
    cosines(G, every, every)
    product = time.perf_counter() - start
    start = time.perf_counter()
    agreement(G, alone, share=0.1, copies=0.98, references=rows, seed=0)
    sorting = max(time.perf_counter() - start - product, 0.0)
    return pairs / rows**2 * (product * d / columns + sorting)


def weights_bytes(most: int, d: int) -> int:
    """The cosines of one source, with a block of rows and one of its judges, in float32."""
    return 4 * (most + 2 * BLOCK * min(d, COLUMNS) + 6 * SORTED)
