"""Candidates that catch up know what Cholesky's factorisation says, from wherever they begin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.submodular import reader
from spice.submodular import state as module
from spice.submodular.kernel import squared_norms
from spice.submodular.rooms import Places
from spice.submodular.state import State

ALPHA = 0.7


def begun(G: np.ndarray, m: int) -> tuple[State, np.ndarray, np.ndarray]:
    """A state after the picks of the first ``m`` rows, its true factor, and all true columns."""
    state = State(G, Places(len(G), None, m), ALPHA, "cpu", squared_norms(G))
    picks = np.arange(m)
    L = np.linalg.cholesky(np.eye(m) + ALPHA * G[:m] @ G[:m].T)
    state.take(picks, picks.tolist(), L.T.copy(), np.zeros(m))
    return state, L, np.linalg.solve(L, ALPHA * G[:m] @ G.T).T


@pytest.mark.parametrize("panel", [1, 3, 128])
@pytest.mark.parametrize("columns", [5, 16_384])
@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_columns_are_made_up_for_from_any_level(panel: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    G, m = rng.normal(size=(24, 7)), int(rng.integers(1, 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PANEL", panel)
        patch.setattr(module, "CHUNK", 6)
        patch.setattr(reader, "PIECE", 8 * columns)
        state, _, true = begun(G, m)
        which = np.arange(m, len(G))
        state.known[which] = rng.integers(0, m + 1, size=len(which))
        for x in which:  # what a row has not seen yet may hold anything
            state.columns[x, : state.known[x]] = state.columns.new_tensor(true[x, : state.known[x]])
            state.columns[x, state.known[x] :] = float("nan")
        lacked = (m - state.known[which]).sum()
        before = state.operations
        state.catch_up(rng.permutation(which))
    assert state.columns[which].numpy() == pytest.approx(true[which], abs=1e-12)
    left = ALPHA * np.square(G).sum(axis=1) - np.square(true).sum(axis=1)
    assert state.residual[which] == pytest.approx(left[which], abs=1e-12)
    assert (state.known[which] == m).all()
    if panel == 1:  # no pair of candidate and pick is made twice, nor a pick turned
        assert state.operations - before == 2 * 7 * lacked + 7 * m**2
    expected = np.linalg.solve(np.linalg.cholesky(np.eye(m) + ALPHA * G[:m] @ G[:m].T), G[:m])
    assert state.directions[:m].numpy() == pytest.approx(expected, abs=1e-12)


def test_only_the_lower_half_is_needed_for_a_new_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)
    G = np.random.default_rng(0).normal(size=(15, 6))
    state, L, _ = begun(G, 13)
    gains = 2 * np.log(np.diag(L))
    state.factor *= 1.001
    assert state.refresh((gains + 1e-3).tolist()) == pytest.approx(1e-3, rel=1e-6)
    assert state.factor.numpy() == pytest.approx(L, abs=1e-12)
