"""The greedy beside what a user would take instead: a window, a whole pool, other libraries.

Each measurement runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.performance import pools
from experiments.performance.timing import in_process, medians, peak_memory
from spice.submodular.kernel import Rows, squared_norms
from spice.submodular.objective import Objective

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
    """Ours, and a loop over candidates as the published code has it, in turns."""
    G = pools.pool(n, d)
    ways: dict[str, Callable[[], list[int]]] = {
        "ours": lambda: objective(G, "auto", certified=False).maximise(k, PENALTY).picks,
        "a loop over candidates": lambda: candidate_loop(G, k),
    }
    same = ways["ours"]() == objective(G, "plain").maximise(k, PENALTY).picks
    return {"seconds": medians(ways, repeats), "same picks": same, "peak": peak_memory()}


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
    ours["as plain products"] = in_process(plain_products, ours["operations"])
    if "dual" in found:
        ours["agreement"] = agreement(ours, found["dual"])
    for record in found.values():
        del record["picks"], record["scores"]
    return {"n": n, "d": d, "k": k, **found}
