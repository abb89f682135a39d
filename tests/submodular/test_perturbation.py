"""ε_x(S): the worked numbers, the decomposition by two routes, and bounds that hold."""

from __future__ import annotations

import numpy as np
import pytest
from clouds import pools
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.submodular.perturbation import perturbation

WORKED = np.array([(3, 0), (2, 0), (-1, 1), (0, 1)], dtype=float)


def test_the_worked_numbers() -> None:
    """METHODS 1.6, after the first pick."""
    found = perturbation(WORKED, 1.0, [0])
    assert found.rows.tolist() == [1, 2, 3]
    assert found.gains == pytest.approx([0.336472, 0.741937, 0.693147], abs=1e-6)
    assert found.epsilon[1] == pytest.approx(-0.356675, abs=1e-6)
    assert found.epsilon[2] == 0  # orthogonal to all that is chosen
    assert found.u == pytest.approx([36 / 5, 9 / 3, 0])
    assert found.published is None  # 1 − 9 − 81 is no denominator


def test_nothing_is_taken_by_nothing() -> None:
    found = perturbation(WORKED, 1.0, [])
    assert (found.epsilon, found.bound) == (pytest.approx(0), pytest.approx(0))
    assert found.gains == pytest.approx(found.bases)


@settings(max_examples=80)
@given(pools(), st.sampled_from([1e-3, 0.1, 1.0, 30.0]), st.integers(0, 10_000))
def test_both_routes_agree_and_the_bounds_hold(G: np.ndarray, alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    picks = rng.permutation(len(G))[: rng.integers(0, len(G))]
    found = perturbation(G, alpha, picks.tolist())
    scale = max(1.0, float(np.abs(found.gains).max(initial=0.0)))
    assert found.error <= 1e-9 * scale
    assert (found.epsilon <= 1e-12).all()
    slack = 1e-9 * (1 + np.abs(found.epsilon))
    assert (np.abs(found.epsilon) <= found.bound + slack).all()
    if found.published is not None:
        assert (np.abs(found.epsilon) <= found.published + slack).all()
