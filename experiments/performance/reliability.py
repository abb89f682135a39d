"""Consensus over a whole pool: time and memory, beside the same count of operations as products.

    python -m experiments.performance.reliability

Gradients are drawn at random, in four sources of the paper's sizes, and lie on disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

SOURCES = {"gsm8k": 7473, "code_alpaca": 20_022, "alpaca": 52_002, "sharegpt": 18_003}
REFERENCES = 2048


def main() -> None:
    """Measure once; the process's own peak of memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--coordinates", type=int, default=8192)
    d = parser.parse_args().coordinates
    names = [name for name, count in SOURCES.items() for _ in range(count)]
    n = len(names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gradients.npy"
        stored = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
        rng = np.random.default_rng(0)
        for start in range(0, n, 4096):
            block = stored[start : start + 4096]
            block[:] = rng.standard_normal(block.shape, dtype=np.float32) + 0.05
        del stored
        gradients = np.load(path, mmap_mode="r")

        import spice

        start = time.perf_counter()
        found = spice.reliability(gradients, names, references=REFERENCES)
        weights = found.weights()
        seconds = time.perf_counter() - start
    told = {
        "n": n,
        "d": d,
        "seconds": round(seconds, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "plain_products_seconds": round(_products(n, d), 1),
        "untrustworthy": round(found.untrustworthy_share, 3),
        "weights_above_0": int(np.count_nonzero(weights)),
    }
    print(json.dumps(told, indent=2))


def _products(n: int, d: int) -> float:
    """Seconds that n × 2,048 × d multiplications take as products of matrices in memory."""
    import torch

    left, right = torch.randn(2048, d), torch.randn(d, REFERENCES)
    left @ right
    start = time.perf_counter()
    left @ right
    return (time.perf_counter() - start) * n / len(left)


if __name__ == "__main__":
    main()
