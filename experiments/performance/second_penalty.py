"""What a second λ costs on a finished store of gradients: the command line, twice.

The first run extracts and selects, the second reads what the first left in the cache. Seconds are
those of ``results.json``, so that starting Python and reading the pool are part of neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PENALTIES = (0.1, 0.5)
SETTINGS = ("benchmarks=none", "finetune=none", "logger=csv")
REAL_ROWS = 1_000


def measure(quick: bool) -> list[dict[str, Any]]:
    """The embedded pool, and a real one where the variable SPICE_REAL_DATA names a folder."""
    pools = {"the sandbox": ["data=sandbox", *(["data.size=100"] if quick else [])]}
    real = os.environ.get("SPICE_REAL_DATA")
    if real and not quick:
        checkpoint = f"{real}/checkpoints/babyllama_char105"
        pools[f"{REAL_ROWS:,} rows of Alpaca"] = [
            f"data=jsonl data.paths=[{real}/pools/alpaca_random.jsonl] data.limit={REAL_ROWS}",
            f"proxy=local proxy.path={checkpoint} model=local model.path={checkpoint}",
        ]
    return [{"pool": name, **twice(" ".join(data).split())} for name, data in pools.items()]


def twice(data: list[str]) -> dict[str, Any]:
    """Seconds of the stages of both runs, and the second's selection over the first's stages."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (run(Path(folder), data, penalty) for penalty in PENALTIES)
    whole = first["seconds"]["gradients"] + first["seconds"]["selection"]
    again = second["seconds"]["gradients"] + second["seconds"]["selection"]
    return {
        "n": first["n"],
        "k": first["k"],
        "first": first["seconds"],
        "second": second["seconds"],
        "ratio": again / whole,
    }


def run(folder: Path, data: list[str], penalty: float) -> dict[str, Any]:
    """One run's ``results.json``."""
    to = folder / str(penalty)
    places = [f"cache_dir={folder / 'cache'}", f"hydra.run.dir={to}"]
    program = [sys.executable, "-m", "spice", *data, *SETTINGS, *places]
    done = subprocess.run([*program, f"selector.penalty={penalty}"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads((to / "results.json").read_text(encoding="utf-8"))
