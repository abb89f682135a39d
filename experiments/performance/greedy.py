"""The greedy beside what a user would take instead: a window, a whole pool, other libraries.

Each measurement runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.performance import pools
from experiments.performance.timing import in_process, medians, peak_memory
from spice.submodular.kernel import Rows, squared_norms
from spice.submodular.objective import Objective

if TYPE_CHECKING:
    from torch import Tensor

PENALTY = 0.1


def objective(G: Rows, maximizer: str, certified: bool = True) -> Objective:
    """With α = 1/mean ‖g‖²."""
    squares = squared_norms(G)
    return Objective(G, squares, float(1 / squares.mean()), 1e-8, "exact", maximizer, certified)


def warm_up() -> None:
    """Load what the greedy loads at first use."""
    objective(pools.pool(64, 64), "blocked").maximise(8, PENALTY)


# -- (a) a window of 120 rows -------------------------------------------------------------------


def window(n: int, d: int, k: int, repeats: int) -> dict[str, Any]:
    """Ours, a loop over candidates as the published code has it, and plain products, in turns.

    Rows with norms as a store has them, and of unit length: of these the longest say nothing.
    """
    import torch

    G = pools.pool(n, d)
    unit = G / np.linalg.norm(G, axis=1, keepdims=True)
    rows = torch.from_numpy(G)

    def picked(rows: np.ndarray, maximizer: str = "auto") -> list[int]:
        return objective(rows, maximizer, certified=False).maximise(k, PENALTY).picks

    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: picked(G),
        "ours, rows of unit length": lambda: picked(unit),
        "the rows' product with themselves, float32": lambda: rows @ rows.T,
        "the same in float64, block by block": lambda: _product_in_float64(rows),
        "a loop over candidates, as published": lambda: candidate_loop(G, k),
    }
    same = all(picked(rows) == picked(rows, "plain") for rows in (G, unit))
    return {"seconds": medians(ways, repeats), "same picks": same, "peak": peak_memory()}


def _product_in_float64(rows: Tensor) -> Tensor:
    import torch

    total = rows.new_zeros(len(rows), len(rows), dtype=torch.float64)
    for part in rows.split(8192, dim=1):
        total.addmm_(part.double(), part.double().T)
    return total


def candidate_loop(G: np.ndarray, k: int) -> list[int]:
    """Every candidate on its own: its gain over the diagonal, the mean of the picks stacked anew.

    As the published code goes about it, in float32: a diagonal of fourth powers, and a cosine with
    the mean of the picks, which is made for each candidate.
    """
    import torch

    rows = list(torch.from_numpy(G))
    denominator, picks = torch.ones(G.shape[1]), []
    for _ in range(k):
        best, highest = -1, -float("inf")
        for x, g in enumerate(rows):
            if x in picks:
                continue
            score = torch.log1p((g * g / denominator).sum()).item()
            if picks:
                mean = torch.stack([rows[y] for y in picks]).mean(dim=0)
                cosine = torch.dot(g, mean) / (g.norm() * mean.norm() + 1e-8)
                score -= PENALTY * max(0.0, -cosine.item())
            if score > highest:
                best, highest = x, score
        picks.append(best)
        denominator += rows[best] ** 4
    return picks


# -- (b) a whole pool ---------------------------------------------------------------------------


def whole(file: str, k: int, maximizer: str) -> dict[str, Any]:
    """One run over a pool on disk."""
    warm_up()
    G = np.load(file, mmap_mode="r")
    problem, start = objective(G, maximizer), time.perf_counter()
    trace = problem.maximise(k, PENALTY)
    return {
        "seconds": time.perf_counter() - start,
        "peak": peak_memory(),
        "information": sum(trace.gains),
        "picks": trace.picks,
        "scores": trace.scores,
        "drift": trace.drift,
        "operations": trace.operations,
    }


def dual_operations(n: int, d: int, k: int) -> float:
    """Multiplications and additions of the dual form: a column of K and one of C for each pick."""
    return 2.0 * n * d * k + float(n) * k * k


def plain_products(operations: float) -> float:
    """Seconds that so many operations take as products of large float32 matrices."""
    import torch

    size = 4096
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    start, times = time.perf_counter(), 5
    for _ in range(times):
        a @ b
    return (time.perf_counter() - start) / (times * 2 * size**3) * operations


def agreement(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Relative difference of F(S), the first pick that differs, and by how much its scores do."""
    pairs = enumerate(zip(one["picks"], other["picks"], strict=True))
    at = next((t for t, (x, y) in pairs if x != y), None)
    gap = None if at is None else abs(one["scores"][at] - other["scores"][at])
    relative = abs(one["information"] / other["information"] - 1)
    return {"information": relative, "first difference": at, "score gap there": gap}


def compare_whole(n: int, d: int, k: int, ways: list[str]) -> dict[str, Any]:
    """Several maximisers on one pool, each in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pool.npy")
        pools.pool(n, d, file=file)
        found = {way: in_process(whole, str(file), k, way) for way in ways}
    ours = found["blocked"]
    ours["dual form as plain products"] = in_process(plain_products, dual_operations(n, d, k))
    if "dual" in found:
        ours["agreement"] = agreement(ours, found["dual"])
    for record in found.values():
        del record["picks"], record["scores"]
    return {"n": n, "d": d, "k": k, **found}
