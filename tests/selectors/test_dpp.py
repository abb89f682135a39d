"""Greedy MAP against determinants taken anew at each step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Selection, Signals
from spice.selectors.dpp import Dpp, greedy_map

WORKED = np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 0.8]])
few = settings(max_examples=30)


def pick(features: np.ndarray, k: int, ids: list[str] | None = None) -> Selection:
    n = len(features)
    names = ids or [f"{i:03}" for i in range(n)]
    signals = Signals(names, ["a"] * n, np.ones(n), embeddings=features)
    return Dpp("embeddings").select(signals, k, np.random.default_rng(0), range(n))


def test_methods_section_7_dpp_worked_example() -> None:
    picks, volumes = greedy_map(np.diagonal(WORKED), lambda x: WORKED[x], 2)
    assert picks == [0, 2]
    assert np.prod(volumes) == pytest.approx(0.79)
    assert greedy_map(np.diagonal(WORKED), lambda x: WORKED[x], 3)[0] == [0, 2, 1]


@few
@given(st.integers(0, 10**6))
def test_each_pick_has_the_largest_determinant_and_the_volumes_multiply_to_it(seed: int) -> None:
    root = np.random.default_rng(seed).normal(size=(9, 12))
    L = root @ root.T
    picks, volumes = greedy_map(np.diagonal(L), lambda x: L[x], 5)
    for m in range(5):
        sets = [[*picks[:m], x] for x in range(9) if x not in picks[:m]]
        dets = [np.linalg.det(L[np.ix_(s, s)]) for s in sets]
        assert sets[int(np.argmax(dets))][-1] == picks[m]
        assert np.prod(volumes[: m + 1]) == pytest.approx(max(dets), rel=1e-6)


def test_what_repeats_the_choice_is_not_chosen() -> None:
    features = np.repeat(np.random.default_rng(1).normal(size=(4, 6)), 3, axis=0)
    chosen = pick(features, 12)
    assert chosen.k == 4
    assert len({row // 3 for row in chosen.indices}) == 4


def test_rows_without_features_are_left_out_and_listed() -> None:
    features = np.random.default_rng(2).normal(size=(5, 3))
    features[1], features[3] = 0, np.nan
    chosen = pick(features, 5)
    assert sorted(chosen.indices) == [0, 2, 4]
    assert chosen.excluded == {"no usable features": [1, 3]}


@few
@given(st.integers(0, 10**6))
def test_the_pools_order_and_the_features_scale_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, order = rng.normal(size=(20, 8)), rng.permutation(20)
    ids = [f"{i:03}" for i in range(20)]
    here = pick(features, 8)
    there = pick(3 * features[order], 8, [ids[i] for i in order])
    assert [int(order[i]) for i in there.indices] == here.indices


def test_other_features_are_refused() -> None:
    with pytest.raises(InputError, match=r"features=words"):
        Dpp("words")
