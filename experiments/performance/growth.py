"""How time and memory grow: extraction with a row's length, the greedy with n, d and k.

One quantity is varied at a time around a base.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.performance import pools
from experiments.performance.greedy import PENALTY, objective, warm_up
from experiments.performance.timing import forget_peak, in_process, medians, peak_memory

BASE = {"n": 8_000, "d": 2_048, "k": 400}
VARIED = {
    "n": (8_000, 16_000, 32_000, 64_000),
    "d": (1_024, 2_048, 4_096, 8_192),
    "k": (100, 200, 400, 800, 1_600),
}
QUICK_BASE = {"n": 400, "d": 128, "k": 20}
QUICK = {"n": (400, 800), "d": (128, 256), "k": (20, 40)}
TOKENS, QUICK_TOKENS = (64, 128, 256, 512), (16, 32)

Points = list[dict[str, float]]


def measure(quick: bool) -> dict[str, Any]:
    """Points, of which each has its quantity under ``at``."""
    base, varied = (QUICK_BASE, QUICK) if quick else (BASE, VARIED)
    rows = in_process(extraction, QUICK_TOKENS if quick else TOKENS, 1 if quick else 3)
    return {"base": base, "tokens": rows, **greedy(base, varied)}


def extraction(lengths: tuple[int, ...], repeats: int) -> Points:
    """Seconds per row of batches of 8 rows, all of one length."""
    from experiments.performance import gradients
    from experiments.performance.gradient_ways import hooks
    from spice.data.rendering import Example

    rng, size = np.random.default_rng(0), gradients.BATCH_SIZES[-1]
    way = hooks(gradients.llama(*gradients.MODELS[-1]))
    batches = {}
    for n in lengths:
        tokens = rng.integers(0, gradients.VOCABULARY, (size, n)).tolist()
        batches[n] = gradients.batches_of([Example(row, n // 3) for row in tokens], size)
    ways = {str(n): partial(gradients.each, way, batches[n]) for n in lengths}
    return [{"at": int(n), "seconds": s / size} for n, s in medians(ways, repeats).items()]


def greedy(base: dict[str, int], varied: dict[str, tuple[int, ...]]) -> dict[str, Points]:
    """Seconds and peak of each size, in a process of its own; what is measured once is kept."""
    known: dict[tuple[int, int, int], dict[str, float]] = {}
    found: dict[str, Points] = {}
    for name, values in varied.items():
        found[name] = []
        for value in values:
            size = {**base, name: value}
            n, d, k = size["n"], size["d"], size["k"]
            known[n, d, k] = known.get((n, d, k)) or one(n, d, k)
            found[name].append({"at": value, **known[n, d, k]})
    return found


def one(n: int, d: int, k: int) -> dict[str, float]:
    """One size; the pool is drawn outside of the process that is measured."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pool.npy")
        pools.pool(n, d, file=file)
        return in_process(run, str(file), k)


def run(file: str, k: int) -> dict[str, float]:
    """The median of three runs, and the most bytes that they add to the libraries."""
    warm_up()
    start, seconds = forget_peak(), []
    for _ in range(3):
        problem = objective(np.load(file, mmap_mode="r"), "blocked")
        begin = time.perf_counter()
        problem.maximise(k, PENALTY)
        seconds.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(seconds), "peak": peak_memory() - start}


def exponent(points: Points, what: str) -> float:
    """b of the fit ``what`` ≈ a · at^b."""
    x, y = (np.log([max(p[key], 1e-12) for p in points]) for key in ("at", what))
    return float(np.polyfit(x, y, 1)[0])
