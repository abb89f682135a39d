"""Other libraries' log-determinant maximisers on the same pool, with λ = 0."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from experiments.performance import pools
from experiments.performance.greedy import objective, warm_up
from experiments.performance.timing import forget_peak, in_process, peak_memory

ABSENT = {
    "apricot-select": "no log-determinant among its functions (0.6.1)",
}


def compare(n: int, d: int, k: int) -> dict[str, Any]:
    """Ours and submodlib's, each in its own process."""
    ours = in_process(_ours, n, d, k)
    try:
        theirs = {"submodlib-py": in_process(_submodlib, n, d, k)}
        absent = ABSENT
    except ImportError as error:
        theirs, absent = {}, {**ABSENT, "submodlib-py": str(error)}
    return {"n": n, "d": d, "k": k, "ours": ours, **theirs, "absent": absent}


def _ours(n: int, d: int, k: int) -> dict[str, Any]:
    warm_up()
    G = pools.pool(n, d)
    held, start = forget_peak(), time.perf_counter()
    trace = objective(G, "auto", certified=False).maximise(k, 0.0)
    return _record(G, trace.picks, start, held)


def _submodlib(n: int, d: int, k: int) -> dict[str, Any]:
    """log det(I + αK_SS) by its lazy greedy; K is made as its users would, by one product."""
    from submodlib import LogDeterminantFunction

    G = pools.pool(n, d)
    held, start = forget_peak(), time.perf_counter()
    kernel = (G @ G.T) / np.square(G, dtype=np.float64).sum(axis=1).mean()
    function = LogDeterminantFunction(n=n, mode="dense", lambdaVal=1.0, sijs=kernel)
    found = function.maximize(budget=k, optimizer="LazyGreedy", show_progress=False)
    return _record(G, [int(pick) for pick, _ in found], start, held)


def _record(G: np.ndarray, picks: list[int], start: float, held: int) -> dict[str, Any]:
    seconds, peak = time.perf_counter() - start, peak_memory() - held
    return {
        "seconds": seconds,
        "peak": peak,
        "information": objective(G, "auto").information(picks),
    }
