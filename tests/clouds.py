"""Gradients that hypothesis draws, hard cases included."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

seeds = st.integers(0, 10**6)


@st.composite
def pools(draw: st.DrawFn) -> np.ndarray:
    """Clouds, clouds on a grid (ties by the dozen), and clouds with half their rows twice."""
    rng = np.random.default_rng(draw(seeds))
    n, d = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    G = rng.normal(size=(n, d)) * np.exp(rng.normal(size=(n, 1)))
    kind = draw(st.sampled_from(["cloud", "grid", "twice"]))
    if kind == "grid":
        G = np.round(G)
    if kind == "twice":
        G[n // 2 :] = G[: n - n // 2]
    return G
