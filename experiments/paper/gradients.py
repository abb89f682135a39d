"""The gradients that a run's selection was made of, for what is said of them and not of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from experiments.paper.runs import Run
from spice.data.row_table import ids_of
from spice.pipeline.run import begin

SAMPLE = 512  # rows, as the paper has them
SELECTOR = "spice"


def of_run(folder: Path) -> np.ndarray:
    """n × d in float64, from the cache."""
    return np.asarray(_begun(folder).keyed.gradients()[:], dtype=np.float64)


def _begun(folder: Path) -> Any:
    """A finished run as it was before it chose."""
    config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(config, DictConfig)
    return begin(config, folder)


def embeddings(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Those that a run's selector needs, n × d in float64, and the rows' ids."""
    state = _begun(folder)
    values = np.asarray(state.keyed.read()["embeddings"][:], dtype=np.float64)
    return values, ids_of(state.pool.rows)


def samples(runs: Sequence[Run], count: int, size: int = SAMPLE) -> list[np.ndarray]:
    """So many draws of rows with a direction, from the pool of the first of SPICE's runs."""
    first = next(run for run in runs if run.selector == SELECTOR)
    G = of_run(first.folder)
    living = np.flatnonzero(np.square(G).sum(axis=1) > 0)
    draws = (np.random.default_rng(seed) for seed in range(count))
    return [G[np.sort(rng.permutation(living)[:size])] for rng in draws]


def alphas(G: np.ndarray) -> dict[str, float]:
    """The published code's α, and the one that does not depend on the gradients' scale."""
    return {"α = 1": 1.0, "α = 1/mean ‖g‖²": float(1 / np.square(G).sum(axis=1).mean())}


def conflicts(G: np.ndarray) -> np.ndarray:
    """max(0, −cos(g, ḡ)) with the mean of all rows, n."""
    mean = G.mean(axis=0)
    cosines = G @ mean / (np.linalg.norm(G, axis=1) * np.linalg.norm(mean))
    return np.maximum(0.0, -cosines)
