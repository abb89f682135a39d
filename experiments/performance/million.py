"""A pool of a million rows: read, tokenised, audited and chosen from; time and memory.

The rows are the sandbox's, numbered sets of 100,000, for it has not so many texts of its own. The
command line chooses at random and tunes for one step, so that the target reads the pool; a second
run, with another seed, finds rows and tokens in the cache. Reading real gradients of so many rows
takes days here: spice chooses from synthetic ones (:mod:`experiments.performance.pools`).
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.performance import pools
from experiments.performance.commands import run
from experiments.performance.timing import in_process, peak_memory
from spice.sandbox.pool import generate

SET = 100_000
SETTINGS = (
    "data=jsonl", "selector=random", "budget=0.01", "finetune.max_steps=1", "benchmarks=none",
    "logger=csv", "trainer.progress=false",
)  # fmt: skip
COORDINATES, PICKS = 256, 1_000


def measure(quick: bool) -> dict[str, Any]:
    """Both runs of the command line, and the greedy."""
    n = 2_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        write(at / "pool.jsonl", n)
        first, again = (run(at, f"{seed}", *settings(at), f"seed={seed}") for seed in (0, 1))
        pools.pool(n, COORDINATES, file=at / "gradients.npy")
        spice = in_process(choose, str(at / "gradients.npy"), min(PICKS, n // 10))
    return {"n": n, "first": first, "again": again, "spice": spice}


def write(path: Path, n: int) -> None:
    """n rows as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for seed, start in enumerate(range(0, n, SET)):
            for row, _ in generate(min(SET, n - start), seed):
                record = {**row.as_dict(), "instruction": f"Set {seed}. {row.instruction}"}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def settings(folder: Path) -> list[str]:
    """What the pool in a folder is read with."""
    return [*SETTINGS, f"data.paths=[{folder / 'pool.jsonl'}]", f"cache_dir={folder / 'cache'}"]


def choose(file: str, k: int) -> dict[str, Any]:
    """Seconds and peak of choosing k rows of a mapped file."""
    import spice

    gradients = np.load(file, mmap_mode="r")
    start = time.perf_counter()
    spice.select(gradients, k)
    seconds = time.perf_counter() - start
    return {"d": gradients.shape[1], "k": k, "seconds": seconds, "peak": peak_memory()}
