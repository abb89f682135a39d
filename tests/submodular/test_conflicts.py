"""What is sure of conflicts and scores is never more than what they turn out to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.submodular.conflicts import FLOOR, Conflicts, Outside
from spice.submodular.greedy import conflicts_of

ETA = 1e-6  # large, so that what it takes away shows


def true_conflicts(G: np.ndarray, picks: list[int]) -> np.ndarray:
    norms, total = np.linalg.norm(G, axis=1), G[picks].sum(axis=0)
    length2, weight = float(total @ total), norms[picks].sum()
    return conflicts_of(G @ total, norms, length2, weight, len(picks), ETA)[0]


def drawn(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    """Rows that pull together or apart, some of no length or next to none."""
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(30, 4)) + rng.choice([0.0, 1.0, 3.0]) * rng.normal(size=4)
    G *= rng.choice([0.0, 1e-9, 1.0, 5.0], size=(30, 1), p=[0.1, 0.1, 0.6, 0.2])
    return rng, G


@settings(max_examples=200)
@given(st.integers(0, 10**6))
def test_a_look_long_ago_bounds_the_conflict_of_now(seed: int) -> None:
    rng, G = drawn(seed)
    known, picks = Conflicts(np.linalg.norm(G, axis=1), 4), []
    everything = np.ones(30, dtype=bool)
    for _ in range(8):
        picks += rng.choice(30, size=int(rng.integers(1, 4)), replace=False).tolist()
        total = G[picks].sum(axis=0)
        known.point(total)
        which = np.flatnonzero(rng.random(30) < 0.4)
        known.see(which, G[which] @ total)
        assert not len(known.unseen(which))
        length = np.linalg.norm(total)
        lost = len(picks) * ETA / max(known.floor * length, 1e-300)
        assert (known.least(everything) <= true_conflicts(G, picks) + lost + 1e-9).all()


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 2.0]))
def test_no_score_outside_is_above_its_bound_however_picks_turn_the_mean(
    seed: int, penalty: float
) -> None:
    rng, G = drawn(seed)
    norms = np.linalg.norm(G, axis=1)
    inside, outside = np.arange(12), np.arange(30) >= 12
    gains = rng.random(30)
    picks = rng.choice(30, size=5, replace=False).tolist()
    known, total = Conflicts(norms, 4), G[picks].sum(axis=0)
    known.point(total)
    known.see(np.arange(30), G @ total)
    most = float((gains - penalty * known.least(np.ones(30, dtype=bool)))[outside].max())
    reach, weight = float(gains[outside].max()), float(norms[picks].sum())
    told = Outside(most, reach, float(total @ total), weight, known.floor)
    for pick in rng.permutation(inside)[:6]:
        picks.append(int(pick))
        now = G[picks].sum(axis=0)
        advance, length2 = float(total @ (now - total)), float(now @ now)
        eta = len(picks) * ETA
        bound = told.bound(penalty, advance, length2, float(norms[picks].sum()), 1e-15, eta)
        scores = gains - penalty * true_conflicts(G, picks)
        assert scores[outside].max() <= bound + 1e-7
        assert bound <= reach


def test_where_the_mean_turns_little_a_conflict_stays_sure() -> None:
    G = np.array([[1.0, 0.0], [-1.0, 0.1], [0.9, 0.1]])
    known = Conflicts(np.linalg.norm(G, axis=1), 2)
    known.point(G[0])
    known.see(np.arange(3), G @ G[0])
    known.point(G[0] + G[2])
    assert known.least(np.ones(3, dtype=bool)) == pytest.approx([0.0, 0.943, 0.0], abs=1e-2)
    assert known.unseen(np.arange(3)).tolist() == [0, 1, 2]


def test_a_candidate_of_next_to_no_length_counts_as_not_pulling() -> None:
    norms = np.array([1.0, 1.0, FLOOR / 2])
    known = Conflicts(norms, 1)
    known.point(np.array([1.0]))
    known.see(np.arange(3), -norms)
    assert known.least(np.ones(3, dtype=bool)).tolist() == [1.0, 1.0, 0.0]
