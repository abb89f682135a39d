"""The forms of the information against their formulas, written out coordinate by coordinate."""

from __future__ import annotations

import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spice
from spice.errors import InputError
from spice.submodular.fisher import MODES, Fisher
from spice.submodular.kernel import gram_kernel, squared_norms
from spice.submodular.objective import Objective

WORKED = np.array([(3, 0), (2, 0), (-1, 1), (0, 1)], dtype=float)
few = settings(max_examples=40)
seeds = st.integers(0, 10**6)
alphas = st.sampled_from([1e-3, 0.1, 1.0, 30.0])


def cloud(seed: int, n: int = 12, d: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def objective(mode: str, G: np.ndarray, alpha: float) -> Objective:
    form, maximizer = (mode, "dual") if mode in MODES else ("exact", mode)
    return Objective(G, squared_norms(G), alpha, 1e-8, form, maximizer)


def make_fisher(mode: str, G: np.ndarray, k: int, alpha: float) -> Fisher:
    return objective(mode, G, alpha).fisher(k)


def path(mode: str, G: np.ndarray, picks: list[int], alpha: float = 1.0) -> list[float]:
    """The gain of each pick when they are taken in this order."""
    kernel = gram_kernel(G)
    fisher = make_fisher(mode, G, len(picks), alpha)
    found = []
    for pick in picks:
        found.append(float(fisher.gains()[pick]))
        fisher.add(pick, kernel.column(pick))
    return found


def gains_by_formula(mode: str, G: np.ndarray, picks: list[int], alpha: float) -> list[float]:
    """Every gain anew, one coordinate after the other."""
    if mode in {"exact", "primal", "plain"}:
        return plain.gains(G, picks, alpha).tolist()
    found = []
    for g in G:
        if mode in {"scalar", "norm"}:
            squared = sum(x * x for x in g)
            found.append(np.log1p(alpha * squared / (1 + alpha if mode == "scalar" else 1)))
            continue
        parts = []
        for j, x in enumerate(g):
            power = 4 if mode == "g4" else 2
            denominator = 1 + alpha * sum(G[y, j] ** power for y in picks)
            parts.append(alpha * x * x / denominator)
        found.append(sum(map(np.log1p, parts)) if mode == "diag_logdet" else np.log1p(sum(parts)))
    return found


@pytest.mark.parametrize("mode", [*MODES, "primal", "plain"])
@few
@given(seeds, alphas)
def test_every_form_is_its_formula_after_any_picks(mode: str, seed: int, alpha: float) -> None:
    G, picks = cloud(seed), [3, 7, 0]
    kernel = gram_kernel(G)
    fisher = make_fisher(mode, G, len(picks), alpha)
    for taken in range(len(picks) + 1):
        expected = gains_by_formula(mode, G, picks[:taken], alpha)
        assert fisher.gains() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        if taken < len(picks):
            fisher.add(picks[taken], kernel.column(picks[taken]))


@pytest.mark.parametrize(
    ("penalty", "exact", "g4"),
    [(0.0, [0, 2, 3], [0, 2, 3]), (0.1, [0, 3, 2], [0, 3, 2]), (0.5, [0, 3, 1], [0, 3, 2])],
)
def test_methods_section_1_6_mathematics_and_published_code(
    penalty: float, exact: list[int], g4: list[int]
) -> None:
    assert spice.select(WORKED, 3, penalty=penalty, fisher="exact").indices == exact
    assert spice.select(WORKED, 3, penalty=penalty, fisher="g4").indices == g4


@few
@given(seeds, st.integers(1, 40), st.sampled_from([1e-3, 1.0, 1e30]))
def test_one_logarithm_for_several_factors(seed: int, d: int, alpha: float) -> None:
    G, picks = cloud(seed, n=5, d=d), [3, 1]
    fisher, kernel = make_fisher("diag_logdet", G, 2, alpha), gram_kernel(G)
    for pick in picks:
        fisher.add(pick, kernel.column(pick))
    expected = gains_by_formula("diag_logdet", G, picks, alpha)
    assert fisher.gains() == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_sums_of_diagonal_gains_depend_on_the_order() -> None:
    G = np.array([(3.0, 0.0), (-1.0, 1.0)])
    one, other = (sum(path("diag", G, order)) for order in ([0, 1], [1, 0]))
    assert (round(one, 4), round(other, 4)) == (3.0445, 2.8034)


@few
@given(seeds, alphas)
def test_gains_of_the_diagonal_determinant_telescope_and_bound_the_exact_one(
    seed: int, alpha: float
) -> None:
    G, picks = cloud(seed), [5, 1, 9, 2]
    total = np.log1p(alpha * np.square(G[picks]).sum(axis=0)).sum()
    assert sum(path("diag_logdet", G, picks, alpha)) == pytest.approx(total)
    assert total >= plain.information(G, picks, alpha) - 1e-9  # Hadamard


@few
@given(seeds, alphas)
def test_the_information_of_a_selection_is_exact_whatever_the_form(seed: int, alpha: float) -> None:
    G = cloud(seed)
    for mode in MODES:
        chosen = spice.select(G, 5, alpha=alpha, fisher=mode)
        expected = plain.information(G, chosen.indices, alpha)
        assert chosen.information == pytest.approx(expected, rel=1e-9)
    assert objective("exact", G, alpha).information([]) == 0.0


@pytest.mark.parametrize("mode", ["norm", "scalar"])
def test_constant_gains_rank_by_norm(mode: str) -> None:
    G = cloud(1)
    by_norm = np.argsort(-np.linalg.norm(G, axis=1))
    assert spice.select(G, 5, penalty=0.0, fisher=mode).indices == by_norm[:5].tolist()


@pytest.mark.parametrize("mode", MODES)
def test_equal_rows_are_taken_in_their_order(mode: str) -> None:
    G = np.repeat(cloud(2, n=3, d=300), 5, axis=0)[np.random.default_rng(0).permutation(15)]
    picks = spice.select(G, 15, penalty=0.0, fisher=mode).indices
    for row in np.unique(G, axis=0):
        copies = [pick for pick in picks if (G[pick] == row).all()]
        assert copies == sorted(copies)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'diag'"):
        spice.select(WORKED, 2, fisher="diagg")
