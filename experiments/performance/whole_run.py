"""A hundred thousand of the sandbox's rows, from the pool to the scores; then another penalty."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from experiments.performance.commands import run

ROWS = 100_000
PENALTIES = (0.1, 0.5)
BUDGET = 0.01  # with a tenth of them the greedy takes hours
SETTINGS = ("selector=spice", f"budget={BUDGET}", "logger=csv", "trainer.progress=false")


def measure(quick: bool) -> dict[str, Any]:
    """Both runs; where SPICE_KEPT names a folder, what was read before is gone on from."""
    n = 1_000 if quick else ROWS
    with tempfile.TemporaryDirectory() as made:
        folder = Path(os.environ.get("SPICE_KEPT", made))
        shared = *SETTINGS, f"data.size={n}", f"cache_dir={folder / 'cache'}"
        runs = [run(folder, f"{penalty}", *shared, f"selector.penalty={penalty}")
                for penalty in PENALTIES]  # fmt: skip
    return {"n": n, "budget": BUDGET, "runs": runs}
