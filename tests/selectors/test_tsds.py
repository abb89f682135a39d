"""TSDS against its worked examples, and what its probabilities must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Selection, Signals
from spice.selectors.tsds import Tsds, kernel_density, transport

DISTANCES = np.array([[1.0, 2, 3, 10, 11]])
SELECTOR = Tsds(None, None, 0.75, 0.5, 5.0)


def cloud(seed: int, n: int = 60, m: int = 4, h: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, h)), rng.normal(size=(m, h))


def pick(pool: np.ndarray, targets: np.ndarray, k: int, ids: list[str] | None = None) -> Selection:
    n = len(pool)
    names = ids or [f"{i:03}" for i in range(n)]
    signals = Signals(names, ["a"] * n, np.ones(n), embeddings=pool, target_embeddings=targets)
    return SELECTOR.select(signals, k, np.random.default_rng(3), range(n))


@pytest.mark.parametrize(
    ("density", "expected"),
    [([1, 1, 1, 1, 1], [1 / 3, 1 / 3, 1 / 3, 0, 0]), ([1, 2, 2, 1, 1], [0.5, 0.25, 0.25, 0, 0])],
)
def test_methods_section_7_tsds_worked_examples(
    density: list[float], expected: list[float]
) -> None:
    found = transport(DISTANCES, np.array([density], dtype=float), 0.5, 5.0)
    assert found[0] == pytest.approx(expected)


def test_a_target_that_is_behind_gives_what_is_left_to_its_next_neighbour() -> None:
    d = np.array([[0.0, 0, 0, 100], [0.0, 0, 0, 100]])
    density = np.array([[1.0, 1, 1, 1], [0.4, 0.4, 0.4, 0.4]])  # 2.5 of mass each
    found = transport(d, density, 0.5, 5.0)
    assert found.sum(axis=1) == pytest.approx([0.5, 0.5])
    level = 3.0  # where the first target has filled three
    assert found[0] == pytest.approx([1 / 6, 1 / 6, 1 / 6, 0])
    assert found[1] == pytest.approx([2.5 / 2 / level, 0.5 / 2 / level, 0, 0])


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.1, 0.9), st.floats(0.5, 20))
def test_probabilities_add_up_and_each_target_has_an_equal_share(
    seed: int, alpha: float, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    d, density = np.sort(rng.uniform(0, 3, (6, 9)), axis=1), rng.uniform(1, 4, (6, 9))
    found = transport(d, density, alpha, scale)
    assert found.sum(axis=1) == pytest.approx(np.full(6, 1 / 6))
    assert (found >= 0).all()
    pool, targets = cloud(seed)
    assert SELECTOR.probabilities(pool, targets).sum() == pytest.approx(1)


def test_rows_near_a_target_and_far_from_each_other_are_preferred() -> None:
    crowd = np.tile([1.0, 0.02, 0.0], (20, 1)) + 1e-3 * np.random.default_rng(0).normal(
        size=(20, 3)
    )
    lonely, far = np.array([[1.0, -0.02, 0.02]]), np.tile([-1.0, 0, 0], (39, 1))
    pool = np.vstack([crowd, lonely, far])
    unit = pool / np.linalg.norm(pool, axis=1, keepdims=True)
    p = Tsds(21, 21, 0.03, 0.5, 5.0).probabilities(unit, np.array([[1.0, 0, 0]]))
    assert p[20] > 5 * p[:20].max()
    assert p[21:].max() == 0


def test_the_density_counts_a_row_itself() -> None:
    points = np.array([[0.0, 0], [0.3, 0], [5, 5]])
    expected = 2 - 0.09 / 0.75**2
    assert kernel_density(points, 0.75, 3) == pytest.approx([expected, expected, 1])
    assert kernel_density(points, 0.0, 3).tolist() == [1, 1, 1]


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_draws_are_distinct_and_the_pools_order_changes_nothing(seed: int) -> None:
    pool, targets = cloud(seed)
    here = pick(pool, targets, 5)
    assert len(set(here.indices)) == here.k <= 5
    order = np.random.default_rng(seed).permutation(60)
    there = pick(pool[order], targets, 5, [f"{i:03}" for i in order])
    assert [int(order[i]) for i in there.indices] == here.indices


def test_no_more_rows_are_drawn_than_the_transport_reaches() -> None:
    pool, targets = cloud(1)
    reached = int(np.sum(SELECTOR.probabilities(*map(_unit, (pool, targets))) > 0))
    assert pick(pool, targets, 60).k == reached < 60


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((0, None, 0.75, 0.5, 5.0), "neighbours"),
        ((None, None, -1.0, 0.5, 5.0), "bandwidth"),
        ((None, None, 0.75, 1.0, 5.0), "alpha"),
        ((None, None, 0.75, 0.5, 0.0), "scale"),
    ],
)
def test_impossible_settings_are_refused(options: tuple, name: str) -> None:
    with pytest.raises(InputError, match=f"^{name}="):
        Tsds(*options)
