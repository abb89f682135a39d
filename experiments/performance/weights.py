"""Consensus over a whole pool: time and memory, beside its cosines as plain products.

Rows have the norms and the spectrum of a real store (:mod:`experiments.performance.pools`), stand
in four sources of the paper's sizes, and lie on disk.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.performance import pools
from experiments.performance.greedy import plain_products
from experiments.performance.timing import peak_memory

SOURCES = {"gsm8k": 7_473, "code_alpaca": 20_022, "alpaca": 52_002, "sharegpt": 18_003}
VOTERS = 2_048


def measure(share: float, d: int) -> dict[str, Any]:
    """Once, of a ``share`` of the rows; the process's own peak of memory."""
    import spice

    names = [name for name, count in SOURCES.items() for _ in range(round(share * count))]
    n = len(names)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pool.npy")
        pools.pool(n, d, file=file)
        gradients = np.load(file, mmap_mode="r")
        spice.reliability(gradients[:64], names[:64], references=32)  # imports are not timed
        start = time.perf_counter()
        found = spice.reliability(gradients, names, references=VOTERS)
        found.weights()
        seconds = time.perf_counter() - start
    voters = sum(min(names.count(name), VOTERS) * names.count(name) for name in SOURCES)
    return {
        "n": n,
        "d": d,
        "voters": VOTERS,
        "seconds": seconds,
        "peak": peak_memory(),
        "products": plain_products(2.0 * voters * d),
    }
