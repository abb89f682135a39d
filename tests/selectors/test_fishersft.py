"""FisherSFT against its worked example and a greedy that looks at everything anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.records import Selection, Signals
from spice.selectors.fishersft import FisherSft, lazy_greedy, square

few = settings(max_examples=30)
WORKED = [np.array([[1.0, 0], [1, 0]]), np.array([[0.0, 1]]), np.array([[1.0, 1]])]


def triangles(states: list[np.ndarray]) -> np.ndarray:
    moments = [X.T @ X for X in states]
    return np.array([A[np.triu_indices(len(A))] for A in moments])


def cloud(seed: int, n: int = 14, h: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(int(rng.integers(1, 7)), h)) for _ in range(n)]


def plain(states: list[np.ndarray], k: int) -> tuple[list[int], list[float]]:
    """Every gain anew: log det(I_M + X V⁻¹ Xᵀ)."""
    V = np.eye(states[0].shape[1])
    picks: list[int] = []
    gains: list[float] = []
    for _ in range(k):
        found = [
            -np.inf if x in picks
            else np.linalg.slogdet(np.eye(len(X)) + X @ np.linalg.inv(V) @ X.T)[1]
            for x, X in enumerate(states)
        ]  # fmt: skip
        best = int(np.argmax(found))
        picks.append(best)
        gains.append(found[best])
        V = V + states[best].T @ states[best]
    return picks, gains


def test_methods_section_4_worked_example() -> None:
    first = [np.linalg.slogdet(np.eye(2) + square(t))[1] for t in triangles(WORKED)]
    assert first == pytest.approx([1.098612, 0.693147, 1.098612], abs=5e-7)
    picks, gains = lazy_greedy(triangles(WORKED), 3)
    assert picks == [0, 2, 1]
    assert gains[:2] == pytest.approx([1.098612, 0.847298], abs=5e-7)


@few
@given(st.integers(0, 10**6), st.integers(1, 14))
def test_lazy_and_plain_greedy_agree(seed: int, k: int) -> None:
    states = cloud(seed)
    picks, gains = lazy_greedy(triangles(states), k, block=3)
    expected, expected_gains = plain(states, k)
    assert picks == expected
    assert gains == pytest.approx(expected_gains, rel=1e-9)


@few
@given(st.integers(0, 10**6))
def test_gains_shrink_add_up_and_do_not_hang_on_the_pools_order(seed: int) -> None:
    states = cloud(seed)
    ids = [f"{i:02}" for i in range(14)]

    def pick(order: list[int]) -> Selection:
        signals = Signals(
            [ids[i] for i in order], ["a"] * 14, np.ones(14),
            token_information=triangles([states[i] for i in order]),
        )  # fmt: skip
        return FisherSft(None).select(signals, 6, np.random.default_rng(0), range(14))

    here = pick(list(range(14)))
    assert here.scores == sorted(here.scores or [], reverse=True)
    total = np.eye(4) + sum(states[i].T @ states[i] for i in here.indices)
    assert sum(here.scores or []) == pytest.approx(np.linalg.slogdet(total)[1])
    order = np.random.default_rng(seed).permutation(14).tolist()
    assert [order[i] for i in pick(order).indices] == here.indices


def test_rows_with_nothing_to_learn_from_are_left_out_and_listed() -> None:
    moments = triangles(cloud(0))
    moments[4] = np.nan
    signals = Signals([f"{i:02}" for i in range(14)], ["a"] * 14, np.ones(14),
                      token_information=moments)  # fmt: skip
    chosen = FisherSft(None).select(signals, 14, np.random.default_rng(0), range(14))
    assert chosen.k == 13
    assert chosen.excluded == {"nothing to learn from": [4]}
