"""What a store in fewer bits costs: bytes, inner products, the picks, and what the picks are worth.

``python -m experiments.performance.precision [STORE]`` rounds the gradients of a float32 store, or
a pool drawn with a real store's norms and spectrum, and prints a table. F(S) is always that of the
gradients before rounding: what is lost is lost by other picks, not by another measure.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.performance import pools
from experiments.performance.greedy import objective
from spice.selectors.scaling import rescale
from spice.storage.coding import CODINGS, FLOAT32, round_trip, row_bytes
from spice.storage.shards import ShardStore
from spice.submodular.kernel import Rows

SHARE = 0.1
PENALTIES = (0.0, 0.1)
SCALES = ("raw", "unit")
DRAWN = (2_000, 8_192)


def product_error(G: np.ndarray, rounded: np.ndarray) -> float:
    """Root of the mean square of (⟨x', y'⟩ − ⟨x, y⟩)/‖x‖‖y‖ over all pairs of rows."""
    exact, found = (rows.astype(np.float64) @ rows.T.astype(np.float64) for rows in (G, rounded))
    norms = np.sqrt(np.diagonal(exact))
    return float(np.sqrt(np.mean(np.square((found - exact) / np.outer(norms, norms)))))


def picks_of(G: Rows, penalty: float) -> list[int]:
    """A tenth of the rows, α = 1/mean ‖g‖²."""
    return objective(G, "auto", certified=False).maximise(round(SHARE * len(G)), penalty).picks


def compare(G: Rows, rounded: Rows, penalty: float) -> dict[str, float]:
    """Jaccard of the picks, and F(S) of those from rounded gradients over the others'."""
    exact = objective(G, "auto", certified=False)
    one, other = picks_of(G, penalty), picks_of(rounded, penalty)
    return {
        "jaccard": len(set(one) & set(other)) / len(set(one) | set(other)),
        "information": exact.information(other) / exact.information(one),
    }


def measure(G: np.ndarray) -> list[dict[str, Any]]:
    """A record per dtype and scale."""
    found = []
    for dtype in CODINGS:
        stored = round_trip(G, dtype)
        error = product_error(G, stored)
        for scale in SCALES:
            given, rounded = (rescale(rows, scale, 1.0, range(len(G))) for rows in (G, stored))
            record = {"dtype": dtype, "scale": scale, "bytes": row_bytes(dtype, G.shape[1])}
            ways = {f"λ={penalty:g}": compare(given, rounded, penalty) for penalty in PENALTIES}
            found.append({**record, "error": error, **ways})
    return found


def table(records: Sequence[dict[str, Any]]) -> str:
    """As Markdown."""
    ways = [f"λ={penalty:g}" for penalty in PENALTIES]
    heads = [f"{what}, {way}" for way in ways for what in ("Jaccard", "F(S) lost")]
    columns = ["scale", "stored as", "bytes per row", "error of inner products", *heads]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for scale in SCALES:
        for r in (record for record in records if record["scale"] == scale):
            cells = [scale, r["dtype"], f"{r['bytes']:,}", f"{r['error']:.1e}"]
            for way in ways:
                cells += [f"{r[way]['jaccard']:.3f}", f"{1 - r[way]['information']:.1e}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# -- time ---------------------------------------------------------------------------------------


def reading(G: np.ndarray, folder: Path, repeats: int = 7) -> dict[str, dict[str, float]]:
    """Milliseconds per dtype for blocks of a mapped store, its files in memory already."""
    n, d = G.shape
    size = 256
    plan = [np.arange(i, min(i + size, n)) for i in range(0, n, size)]
    some = np.sort(np.random.default_rng(0).permutation(n)[: min(512, n)])
    ways = {
        "512 rows": (some, slice(0, d)),
        "16,384 columns of 512 rows": (some, slice(0, min(16_384, d))),
        "1,024 rows in a row": (slice(0, 1024), slice(0, d)),
    }
    stores = {}
    for dtype in CODINGS:
        store = ShardStore(folder / dtype, {}, [str(i) for i in range(n)], plan, d, dtype)
        store.open()
        for shard, rows in enumerate(plan):
            store.write(shard, G[rows])
        stores[dtype] = store.rows()
    times: dict[str, dict[str, float]] = {way: {} for way in ways}
    for way, which in ways.items():
        seconds: dict[str, list[float]] = {dtype: [] for dtype in stores}
        for _ in range(repeats):
            for dtype, rows in stores.items():
                seconds[dtype].append(timed(lambda rows=rows, which=which: rows[which]))
        times[way] = {dtype: 1000 * float(np.median(s)) for dtype, s in seconds.items()}
    return times


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    import tempfile

    G = pools.read_store(Path(arguments[0])) if arguments else pools.pool(*DRAWN)
    G = G[np.isfinite(G).all(axis=1) & G.any(axis=1)]
    print(f"{G.shape[0]:,} rows × {G.shape[1]:,} coordinates\n\n{table(measure(G))}\n")
    with tempfile.TemporaryDirectory() as folder:
        times = reading(G, Path(folder))
    print("| milliseconds | " + " | ".join(CODINGS) + " |\n" + "|---" * (len(CODINGS) + 1) + "|")
    for way, found in times.items():
        cells = [f"{found[d]:.0f}, {found[d] / found[FLOAT32]:.2f}" for d in CODINGS]
        print(f"| {way} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
