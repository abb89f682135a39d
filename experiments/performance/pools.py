"""Gradients for the greedy to choose from, as heavy-tailed as a real store's.

``profile.json`` holds what a real store looked like: quantiles of its norms over their median, and
the spectrum of its rows scaled to unit length. ``python -m experiments.performance.pools STORE``
writes it anew from a store of gradients.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

PROFILE = Path(__file__).with_name("profile.json")
POINTS = 65


def profile(gradients: np.ndarray) -> dict[str, list[float]]:
    """Quantiles of ‖g‖ over their median, and eigenvalues of the mean of ggᵀ/‖g‖², Σ = 1.

    The eigenvalues stand at ranks that grow by equal factors, so that they can be drawn out to
    more coordinates than the store had rows.
    """
    gradients = gradients[np.isfinite(gradients).all(axis=1)].astype(np.float64)
    norms = np.linalg.norm(gradients, axis=1)
    rows = gradients[norms > 0] / norms[norms > 0, None]
    values = np.linalg.svd(rows, compute_uv=False) ** 2 / len(rows)
    ranks = np.unique(np.geomspace(1, len(values) // 2, POINTS).round()).astype(int)
    return {
        "norms": np.quantile(norms / np.median(norms), np.linspace(0, 1, POINTS)).tolist(),
        "ranks": ranks.tolist(),
        "eigenvalues": values[ranks - 1].tolist(),
    }


def pool(n: int, d: int, seed: int = 0, file: Path | None = None) -> np.ndarray:
    """n × d float32 with the profile's norms and spectrum; in ``file``, memory-mapped, if given.

    Beyond the profile's last rank the spectrum goes on falling as it did over its last half.
    """
    known = json.loads(PROFILE.read_text(encoding="utf-8"))
    ranks, values = np.log(known["ranks"]), np.log(known["eigenvalues"])
    at = np.log(np.arange(1, d + 1))
    half = len(ranks) // 2
    slope = (values[-1] - values[half]) / (ranks[-1] - ranks[half])
    spectrum = np.where(
        at <= ranks[-1], np.interp(at, ranks, values), values[-1] + slope * (at - ranks[-1])
    )
    deviations = np.exp(0.5 * spectrum).astype(np.float32)
    rng = np.random.default_rng(seed)
    norms = np.interp(rng.random(n), np.linspace(0, 1, len(known["norms"])), known["norms"])
    shape = (n, d)
    G = (
        np.empty(shape, np.float32)
        if file is None
        else np.lib.format.open_memmap(file, "w+", np.float32, shape)
    )
    for i in range(0, n, 1024):
        part = rng.standard_normal((min(1024, n - i), d), dtype=np.float32) * deviations
        part[:, 0] = np.abs(part[:, 0])  # the direction that all rows have in common
        part *= (norms[i : i + 1024] / np.linalg.norm(part, axis=1))[:, None].astype(np.float32)
        G[i : i + 1024] = part
    return G


def read_store(folder: Path) -> np.ndarray:
    """All shards of a float32 store, in no particular order."""
    from safetensors.numpy import load_file

    return np.concatenate(
        [load_file(path)["values"] for path in sorted(folder.glob("*.safetensors"))]
    )


if __name__ == "__main__":
    PROFILE.write_text(json.dumps(profile(read_store(Path(sys.argv[1])))) + "\n", encoding="utf-8")
