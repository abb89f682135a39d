"""The greedy against a worked example, closed forms, bounds and invariances."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spice.selectors.account import conflicting_shares
from spice.submodular.fisher import DualFisher
from spice.submodular.greedy import GreedyTrace, greedy
from spice.submodular.kernel import Kernel, gram_kernel, streaming_kernel

WORKED = np.array([(3, 0), (2, 0), (-1, 1), (0, 1)], dtype=float)

few = settings(max_examples=60)
penalties = st.sampled_from([0.0, 0.1, 0.5, 1.0])
alphas = st.sampled_from([1e-3, 0.1, 1.0, 30.0])
seeds = st.integers(0, 10**6)


@st.composite
def grids(draw: st.DrawFn) -> np.ndarray:
    """Up to eight small gradients on a grid: equal, opposite and dependent rows are common."""
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 4)))
    return draw(arrays(np.float64, shape, elements=st.integers(-6, 6).map(lambda i: i / 2)))


def cloud(seed: int, n: int = 30, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def run(G: np.ndarray, k: int, **options: float | None) -> GreedyTrace:
    return chosen(gram_kernel(G), k, **{"alpha": 1.0, "penalty": 0.0, **options})  # type: ignore


def chosen(kernel: Kernel, k: int, *, alpha: float, **options: float) -> GreedyTrace:
    return greedy(kernel, DualFisher(kernel, k, alpha), k, **options)  # type: ignore[arg-type]


# -- the worked example, to the digit ----------------------------------------------------------


def test_methods_section_1_6_first_gains() -> None:
    for row, gain in enumerate((2.302585, 1.609438, 1.098612, 0.693147)):
        assert run(WORKED[[row]], 1).gains == [pytest.approx(gain, abs=5e-7)]


@pytest.mark.parametrize(
    ("candidate", "gain", "conflict"),
    [(1, 0.336472, 0.0), (2, 0.741937, 0.707107), (3, 0.693147, 0.0)],
)
def test_methods_section_1_6_second_step(candidate: int, gain: float, conflict: float) -> None:
    trace = run(WORKED[[0, candidate]], 2)
    assert trace.picks == [0, 1]
    assert trace.gains[1] == pytest.approx(gain, abs=5e-7)
    assert trace.conflicts[1] == pytest.approx(conflict, abs=5e-7)


def test_methods_section_1_6_epsilon() -> None:
    trace = run(WORKED[[0, 2]], 2)
    assert trace.gains[1] - math.log1p(2) == pytest.approx(-0.356675, abs=5e-7)


def test_methods_section_1_6_third_step() -> None:
    trace = run(WORKED, 3, penalty=0.1)
    assert trace.picks == [0, 3, 2]
    assert trace.gains[2] == pytest.approx(0.470004, abs=5e-7)
    assert trace.conflicts[2] == pytest.approx(0.447214, abs=5e-7)
    assert run(WORKED[[0, 3, 1]], 3).gains[2] == pytest.approx(0.336472, abs=5e-7)


@pytest.mark.parametrize(
    ("penalty", "picks", "information"),
    [(0.0, [0, 2, 3], 3.465736), (0.1, [0, 3, 2], 3.465736), (0.5, [0, 3, 1], 3.332205)],
)
def test_methods_section_1_6_penalties(
    penalty: float, picks: list[int], information: float
) -> None:
    trace = run(WORKED, 3, penalty=penalty)
    assert trace.picks == picks
    assert sum(trace.gains) == pytest.approx(information, abs=5e-7)


@pytest.mark.parametrize(("inclusive", "picks"), [(False, [0]), (True, [0, 2])])
def test_methods_section_1_6_early_stop(inclusive: bool, picks: list[int]) -> None:
    assert run(WORKED, 3, stop_ratio=0.5, stop_inclusive=inclusive).picks == picks


def test_methods_section_8_stale_scores_would_mislead() -> None:
    """Conflicts can shrink, so a heap of stale scores gives [1, 3, 0]."""
    G = np.array([(-1, 1), (-1, -2), (1, 2), (1, -2)], dtype=float)
    assert run(G, 3, penalty=1.0).picks == [1, 3, 2]


# -- what the numbers mean ---------------------------------------------------------------------


@few
@given(grids(), alphas, penalties)
def test_gains_add_up_to_the_log_determinant(G: np.ndarray, alpha: float, penalty: float) -> None:
    trace = run(G, len(G), alpha=alpha, penalty=penalty)
    assert sorted(trace.picks) == list(range(len(G)))
    expected = plain.information(G, trace.picks, alpha)
    assert sum(trace.gains) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@few
@given(seeds, alphas, penalties, st.integers(1, 9))
def test_plain_primal_and_lazy_greedies_make_the_same_picks(
    seed: int, alpha: float, penalty: float, k: int
) -> None:
    G = cloud(seed, n=15)
    ours = run(G, k, alpha=alpha, penalty=penalty).picks
    steps = plain.spice(G, k, alpha=alpha, penalty=penalty)
    assert ours == [step.pick for step in steps]
    assert ours == plain.primal(G, k, alpha, penalty) == plain.lazy(G, k, alpha, penalty)


@few
@given(seeds, alphas)
def test_without_a_penalty_it_is_plain_fisher(seed: int, alpha: float) -> None:
    """Each pick adds most to the determinant itself, conflicts notwithstanding."""
    G = cloud(seed, n=12, d=4)
    trace = run(G, 8, alpha=alpha)
    for m, pick in enumerate(trace.picks):
        before = trace.picks[:m]
        rest = [x for x in range(12) if x not in before]
        values = {x: plain.information(G, [*before, x], alpha) for x in rest}
        assert values[pick] == pytest.approx(max(values.values()), rel=1e-9)


@few
@given(seeds, alphas)
def test_gains_never_grow_and_the_first_pick_is_the_longest(seed: int, alpha: float) -> None:
    G = cloud(seed)
    trace = run(G, 20, alpha=alpha)
    assert trace.picks[0] == np.argmax(np.linalg.norm(G, axis=1))
    assert np.all(np.diff(trace.gains) <= 1e-12)


@few
@given(grids(), alphas, penalties)
def test_each_gain_is_at_most_the_gain_alone_and_at_least_what_overlap_leaves(
    G: np.ndarray, alpha: float, penalty: float
) -> None:
    """−(1 + α‖F‖)·u ≤ ε ≤ 0 with u = α² Σ (g·g_y)² / (1 + α‖g‖²)."""
    trace = run(G, len(G), alpha=alpha, penalty=penalty)
    for m, (pick, gain) in enumerate(zip(trace.picks, trace.gains, strict=True)):
        S, squared = G[trace.picks[:m]], alpha * G[pick] @ G[pick]
        u = alpha**2 * np.square(S @ G[pick]).sum() / (1 + squared)
        spread = 1 + alpha * np.linalg.norm(S.T @ S, 2)
        epsilon = gain - math.log1p(squared)
        assert -spread * u - 1e-10 <= epsilon <= 1e-10


@few
@given(grids(), alphas, penalties)
def test_conflicts_are_shares_and_start_at_zero(
    G: np.ndarray, alpha: float, penalty: float
) -> None:
    trace = run(G, len(G), alpha=alpha, penalty=penalty)
    assert trace.conflicts[0] == 0.0
    assert all(0.0 <= c <= 1.0 and math.copysign(1, c) > 0 for c in trace.conflicts)
    for m in range(1, len(G)):
        expected = plain.conflicts(G, trace.picks[:m])[trace.picks[m]]
        assert trace.conflicts[m] == pytest.approx(expected, abs=1e-6)


def test_aligned_and_orthogonal_rows_do_not_conflict_and_opposite_ones_do() -> None:
    assert run(np.array([[2.0, 0], [1, 0], [0, 1]]), 3).conflicts == [0, 0, 0]
    assert run(np.array([[2.0, 0], [-1, 0]]), 2).conflicts == [0, pytest.approx(1)]


# -- bounds, by brute force --------------------------------------------------------------------


def optimum(G: np.ndarray, k: int, alpha: float) -> float:
    subsets = itertools.combinations(range(len(G)), k)
    return max(plain.information(G, list(subset), alpha) for subset in subsets)


@few
@given(grids(), alphas, penalties, st.integers(1, 4))
def test_greedy_keeps_the_bound_of_submodularity_less_what_the_penalty_costs(
    G: np.ndarray, alpha: float, penalty: float, k: int
) -> None:
    """F ≥ (1 − (1 − 1/k)^k)(OPT − kλ): for λ = 0 the classical bound, above 1 − 1/e."""
    k = min(k, len(G))
    found = sum(run(G, k, alpha=alpha, penalty=penalty).gains)
    factor = 1 - (1 - 1 / k) ** k
    assert found >= factor * (optimum(G, k, alpha) - k * penalty) - 1e-9


@pytest.mark.parametrize(
    ("alpha", "curvature", "factor"), [(1.0, 0.802134, 0.687702), (0.01, 0.089226, 0.956685)]
)
def test_greedy_keeps_the_bound_of_curvature(alpha: float, curvature: float, factor: float) -> None:
    rest = [plain.information(WORKED, [y for y in range(4) if y != x], alpha) for x in range(4)]
    alone = [plain.information(WORKED, [x], alpha) for x in range(4)]
    last = plain.information(WORKED, [0, 1, 2, 3], alpha) - np.array(rest)
    c = 1 - (last / alone).min()
    assert c == pytest.approx(curvature, abs=5e-7)
    assert (1 - math.exp(-c)) / c == pytest.approx(factor, abs=5e-7)
    for k in range(1, 5):
        assert sum(run(WORKED, k, alpha=alpha).gains) >= factor * optimum(WORKED, k, alpha)


# -- closed forms ------------------------------------------------------------------------------


def test_copies_of_one_row_give_the_logarithm_of_their_number() -> None:
    trace = run(np.full((7, 3), 0.4), 7, alpha=2.0)
    r = 2.0 * 0.48
    assert trace.picks == list(range(7))
    for m, gain in enumerate(trace.gains):  # r becomes r/(1+r) with each copy
        assert gain == pytest.approx(math.log1p(r / (1 + m * r)), rel=1e-12)
    assert sum(trace.gains) == pytest.approx(math.log1p(7 * r), rel=1e-12)


def test_orthogonal_rows_neither_share_information_nor_conflict() -> None:
    Q = np.linalg.qr(cloud(0, 8, 8))[0] * np.arange(1, 9)[:, None]
    trace = run(Q, 8, penalty=1.0)
    assert trace.picks == list(range(7, -1, -1))
    assert trace.gains == pytest.approx([math.log1p(i * i) for i in range(8, 0, -1)], rel=1e-12)
    assert trace.conflicts == pytest.approx([0.0] * 8, abs=1e-12)


# -- invariances -------------------------------------------------------------------------------


@few
@given(seeds, alphas, penalties)
def test_rotations_reflections_and_rescaling_change_nothing(
    seed: int, alpha: float, penalty: float
) -> None:
    G = cloud(seed)
    Q = np.linalg.qr(cloud(seed + 1, 6, 6))[0]
    whole = run(G, 12, alpha=alpha, penalty=penalty)
    for other, a in ((G @ Q, alpha), (-G, alpha), (100 * G, alpha / 1e4), (G / 8, 64 * alpha)):
        trace = run(other, 12, alpha=a, penalty=penalty)
        assert trace.picks == whole.picks
        assert trace.gains == pytest.approx(whole.gains, rel=1e-9)
        assert trace.conflicts == pytest.approx(whole.conflicts, abs=1e-6)


@few
@given(seeds, penalties, st.floats(0, 1), st.floats(0, 1))
def test_stopping_sooner_gives_a_prefix(seed: int, penalty: float, a: float, b: float) -> None:
    G = cloud(seed)
    short, long = (
        run(G, 30, penalty=penalty, stop_ratio=max(a, b)),
        run(G, 30, penalty=penalty, stop_ratio=min(a, b)),
    )
    assert short.picks == long.picks[: len(short.picks)]
    inclusive = run(G, 30, penalty=penalty, stop_ratio=max(a, b), stop_inclusive=True)
    assert inclusive.picks[: len(short.picks)] == short.picks
    assert len(inclusive.picks) == min(len(short.picks) + 1, 30)


def test_a_stop_ratio_of_one_read_literally_stops_at_the_first_pick() -> None:
    assert run(WORKED, 3, stop_ratio=1.0).picks == []
    assert run(WORKED, 3, stop_ratio=1.0, stop_inclusive=True).picks == [0]


# -- ties and rounding -------------------------------------------------------------------------


@few
@given(seeds, st.sampled_from([1e-6, 1.0, 1e2, 1e4, 1e6]), penalties)
def test_exact_copies_are_taken_in_order_wherever_they_stand(
    seed: int, alpha: float, penalty: float
) -> None:
    """BLAS rounds a row's inner products by where it stands; the choice must not follow that."""
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 20, size=47)
    G = rng.normal(size=(20, int(rng.integers(2, 3000)))).astype(np.float32)[original]
    for kernel in (gram_kernel(G), streaming_kernel(G, block=10)):
        picks = chosen(kernel, 47, alpha=alpha, penalty=penalty).picks
        for row in range(20):
            copies = [pick for pick in picks if original[pick] == row]
            assert copies == sorted(copies)


def test_equal_scores_go_to_the_smaller_position() -> None:
    assert run(np.eye(6), 6).picks == [0, 1, 2, 3, 4, 5]
    assert run(np.vstack([np.eye(3), -np.eye(3)]), 3).picks == [0, 1, 2]


@pytest.mark.parametrize("alpha", [1e-12, 1e-6, 1e6, 1e9])
def test_nearly_collinear_rows_are_told_apart_for_any_alpha(alpha: float) -> None:
    """r is what is left of α‖g‖² ~ 1e10 after it has been all but subtracted away."""
    for seed in range(10):
        G = cloud(seed, 40, 12)
        G = G[:1] + 1e-2 * G
        picks = run(G, 15, alpha=alpha, penalty=0.1).picks
        for m in range(15):
            score = plain.gains(G, picks[:m], alpha) - 0.1 * plain.conflicts(G, picks[:m])
            score[picks[:m]] = -np.inf
            doubt = 1e-13 * alpha * np.square(G).sum(axis=1).max()
            assert score[picks[m]] >= score.max() - doubt


def test_tiny_gradients_are_ranked_by_norm_and_not_taken_for_ties() -> None:
    G = 1e-9 * np.diag([1.0, 3.0, 2.0])
    assert run(G, 3).picks == [1, 2, 0]


# -- kernels -----------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 9), penalties)
def test_both_kernels_lead_to_one_selection(seed: int, block: int, penalty: float) -> None:
    G = cloud(seed, n=23, d=17).astype(np.float32)
    whole = chosen(gram_kernel(G, block=block), 15, alpha=1.0, penalty=penalty)
    stream = chosen(streaming_kernel(G, block=block), 15, alpha=1.0, penalty=penalty)
    assert whole.picks == stream.picks
    assert whole.gains == pytest.approx(stream.gains, rel=1e-10)


@pytest.mark.parametrize("make", [gram_kernel, streaming_kernel])
def test_kernels_are_inner_products_in_float64(make: type) -> None:
    G = cloud(3, 11, 5).astype(np.float32)
    K = G.astype(np.float64) @ G.astype(np.float64).T
    kernel = make(G, block=4)
    assert len(kernel) == 11
    np.testing.assert_allclose(kernel.diagonal, np.diagonal(K), rtol=1e-14)
    np.testing.assert_allclose([kernel.column(x) for x in range(11)], K, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make", [gram_kernel, streaming_kernel])
def test_nothing_to_choose_from_is_an_empty_run(make: type) -> None:
    assert chosen(make(np.empty((0, 3))), 2, alpha=1.0, penalty=0.1).picks == []
    assert chosen(make(WORKED), 0, alpha=1.0, penalty=0.1).picks == []


# -- what the trace says -----------------------------------------------------------------------


def test_conflicting_candidates_are_counted_after_the_first_pick() -> None:
    trace = run(WORKED, 4, penalty=0.1)
    assert trace.picks == [0, 3, 2, 1]
    # of {1,2,3} only 2 pulls against (3,0); of {1,2} only 2 against (3,1); then 1 is left
    assert conflicting_shares(WORKED, trace.picks) == pytest.approx([1 / 3, 1 / 2, 0])


def test_leverage_is_the_penalty_s_spread_over_the_gap_of_the_gains() -> None:
    trace = run(WORKED, 2, penalty=0.1)
    assert trace.leverage == pytest.approx([0.1 * 0.707107 / (0.741937 - 0.336472)], rel=1e-5)
    assert run(WORKED, 2, penalty=0.0).leverage == [0.0]


def test_leverage_looks_at_the_ten_best_only() -> None:
    """Ten strong rows agree with the pick; a weak eleventh opposes it and does not count."""
    G = np.vstack([[9.0, 0], np.column_stack([np.linspace(2, 3, 10), np.ones(10)]), [-0.1, 0]])
    assert run(G, 2, penalty=1.0).leverage == [0.0]


def test_leverage_is_finite_where_all_gains_are_equal() -> None:
    leverage = run(np.array([[2.0, 0], [1, 0], [-1, 0]]), 2, penalty=0.1).leverage
    assert leverage[0] > 1e6
    assert math.isfinite(leverage[0])


def test_two_thousand_rows_take_seconds() -> None:
    G = np.random.default_rng(0).normal(size=(2000, 5000)).astype(np.float32)
    start = time.perf_counter()
    trace = run(G, 200, penalty=0.1)
    assert len(set(trace.picks)) == 200
    assert time.perf_counter() - start < 30
