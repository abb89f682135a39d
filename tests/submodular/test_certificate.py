"""Certificates against the true optimum, found by trying all subsets."""

from __future__ import annotations

import itertools

import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spice
from spice.submodular.certificate import curvature
from spice.submodular.kernel import squared_norms
from spice.submodular.objective import Objective

few = settings(max_examples=60)
seeds = st.integers(0, 10**6)
alphas = st.sampled_from([0.01, 1.0, 30.0])


def cloud(seed: int, n: int = 8, d: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.exp(rng.normal(size=(n, 1)))


def optimum(G: np.ndarray, k: int, alpha: float) -> float:
    subsets = itertools.combinations(range(len(G)), k)
    return max(plain.information(G, list(picks), alpha) for picks in subsets)


@pytest.mark.parametrize("maximizer", ["dual", "blocked", "lazy"])
@few
@given(seeds, alphas, st.sampled_from([0.0, 0.1, 1.0]), st.integers(1, 6))
def test_no_subset_is_better_than_a_bound(
    maximizer: str, seed: int, alpha: float, penalty: float, k: int
) -> None:
    G = cloud(seed)
    objective = Objective(G, squared_norms(G), alpha, 1e-8, "exact", maximizer)
    trace = objective.maximise(k, penalty)
    found = objective.certificate(trace, penalty)
    assert found is not None
    best, reached = optimum(G, k, alpha), plain.information(G, trace.picks, alpha)
    assert set(found["bounds"]) == {"later_gains", "additive"} | (
        {"curvature"} - {penalty and "curvature"}
    )
    for bound in found["bounds"].values():
        assert bound >= best * (1 - 1e-9)
    assert found["guaranteed_fraction"] <= reached / best * (1 + 1e-9)


@few
@given(seeds, alphas, st.sampled_from([(9, 3), (3, 9), (6, 6)]))
def test_curvature_is_its_definition(seed: int, alpha: float, shape: tuple[int, int]) -> None:
    G = cloud(seed, *shape)
    n = len(G)
    whole = plain.information(G, list(range(n)), alpha)
    last = [whole - plain.information(G, [y for y in range(n) if y != x], alpha) for x in range(n)]
    alone = [plain.information(G, [x], alpha) for x in range(n)]
    expected = 1 - min(a / b for a, b in zip(last, alone, strict=True))
    assert curvature(G, squared_norms(G), alpha) == pytest.approx(expected, abs=1e-7)


@few
@given(seeds, alphas)
def test_what_stands_in_for_curvature_is_never_below_it(seed: int, alpha: float) -> None:
    G = cloud(seed)
    squares = squared_norms(G)
    shares = np.log1p(alpha * squares / (1 + alpha * squares.sum())) / np.log1p(alpha * squares)
    assert 1 - shares.min() >= curvature(G, squares, alpha) - 1e-12


def test_orthogonal_gradients_are_chosen_best_and_it_is_known() -> None:
    selection = spice.select(np.diag([3.0, 2.0, 1.0, 0.5]), k=2, penalty=0.0)
    assert selection.indices == [0, 1]
    assert selection.certificate is not None
    assert selection.certificate["guaranteed_fraction"] == pytest.approx(1.0)
    assert selection.certificate["bounds"]["curvature"] == pytest.approx(selection.information)


def test_the_whole_pool_is_its_own_optimum() -> None:
    selection = spice.select(cloud(1), k=8, penalty=0.1)
    assert selection.certificate is not None
    assert selection.certificate["guaranteed_fraction"] == pytest.approx(1.0, rel=1e-12)


def test_other_forms_of_the_information_have_none() -> None:
    assert spice.select(cloud(1), k=3, penalty=0.0, fisher="diag").certificate is None
