"""What a second λ costs on a finished store of gradients: the command line, twice.

The first run reads, extracts and selects, the second finds what the first left in the cache. All
of it counts: starting Python, reading the pool, the figures.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from experiments.performance.commands import run

PENALTIES = (0.1, 0.5)
SETTINGS = ("benchmarks=none", "finetune=none", "logger=csv", "trainer.progress=false")
FEW = 1_000


def measure(quick: bool) -> list[dict[str, Any]]:
    """The embedded pool, and a real one where the variable SPICE_REAL_DATA names a folder."""
    pools = {"the sandbox": ["data=sandbox", *(["data.size=100"] if quick else [])]}
    real = os.environ.get("SPICE_REAL_DATA")
    if real and not quick:
        checkpoint = f"{real}/checkpoints/babyllama_char105"
        model = ["proxy=local", f"proxy.path={checkpoint}"]
        model += ["model=local", f"model.path={checkpoint}"]
        alpaca = f"data.paths=[{real}/pools/alpaca_random.jsonl]"
        pools[f"{FEW:,} rows of Alpaca"] = ["data=jsonl", alpaca, f"data.limit={FEW}", *model]
    return [{"pool": name, **twice(data)} for name, data in pools.items()]


def twice(data: list[str]) -> dict[str, Any]:
    """Both runs, and the second's seconds over the first's."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(os.environ.get("SPICE_KEPT", made))
        shared = *data, *SETTINGS, f"cache_dir={folder / 'cache'}"
        first, second = (
            run(folder, f"{penalty}", *shared, f"selector.penalty={penalty}")
            for penalty in PENALTIES
        )
    return {
        "n": first["n"],
        "k": first["k"],
        "first": first,
        "second": second,
        "ratio": second["seconds"] / first["seconds"],
    }
