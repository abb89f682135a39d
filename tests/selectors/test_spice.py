"""The selector around the greedy: ids, rows left out, α, and what it reports."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Selection, Signals
from spice.selectors.spice import Spice

WORKED = np.array([(3, 0), (2, 0), (-1, 1), (0, 1)], dtype=float)
RNG = np.random.default_rng(0)


def selector(**options: Any) -> Spice:
    defaults = {
        "penalty": 0.1,
        "alpha": 1.0,
        "scale": "raw",
        "clip_quantile": 0.95,
        "stop_ratio": None,
        "stop_inclusive": False,
        "keep_zero": False,
        "fisher": "exact",
        "reliability": None,
        "maximizer": "auto",
        "partitions": "auto",
    }
    return Spice(**{**defaults, **options})


def pick(G: np.ndarray, k: int, ids: list[str] | None = None, **options: Any) -> Selection:
    names = ids or [f"{i:03}" for i in range(len(G))]
    signals = Signals(names, ["pool"] * len(G), np.ones(len(G), dtype=int), gradients=G)
    return selector(**options).select(signals, k, RNG, range(len(G)))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 1.0]))
def test_the_order_of_the_pool_changes_nothing_to_the_bit(seed: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(25, 300)).astype(np.float32)
    G[rng.integers(0, 25, 6)] = G[3]  # equal rows are told apart by their ids
    ids = [f"{i:02}" for i in rng.permutation(25)]
    shuffled = rng.permutation(25)
    one = pick(G, 12, ids, penalty=penalty)
    other = pick(G[shuffled], 12, [ids[i] for i in shuffled], penalty=penalty)
    assert [ids[shuffled[i]] for i in other.indices] == [ids[i] for i in one.indices]
    assert (other.gains, other.conflicts, other.epsilons, other.information) == (
        one.gains, one.conflicts, one.epsilons, one.information,
    )  # fmt: skip


def test_ties_go_to_the_smaller_id_wherever_it_stands() -> None:
    G = np.array([[1.0, 0], [0, 1], [1, 0]])
    assert pick(G, 3, ["c", "b", "a"]).indices == [2, 1, 0]


def test_only_eligible_rows_are_picked() -> None:
    signals = Signals(list("abcd"), ["x"] * 4, np.ones(4, dtype=int), gradients=WORKED)
    chosen = selector(penalty=0.0).select(signals, 4, RNG, [1, 3])
    assert chosen.indices == [1, 3]
    assert chosen.n == 4


def test_zero_rows_are_left_out_and_listed() -> None:
    """A zero score would beat the conflicting row's negative one."""
    G = np.array([[2.0, 0], [0, 0], [-0.1, 0]])
    chosen = pick(G, 3, penalty=1.0)
    assert chosen.indices == [0, 2]
    assert chosen.excluded == {"zero gradient": [1]}
    assert pick(G, 3, penalty=1.0, keep_zero=True).indices == [0, 1, 2]
    assert pick(G, 3, penalty=1.0, keep_zero=True).excluded == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_rows_that_are_not_finite_are_left_out_and_listed(bad: float) -> None:
    """1e200 is finite, its square is not."""
    G = WORKED.copy()
    G[0, 1] = bad
    chosen = pick(G, 4)
    assert sorted(chosen.indices) == [1, 2, 3]
    assert chosen.excluded == {"not finite": [0]}
    clean = pick(WORKED[1:], 4)
    assert chosen.gains == clean.gains


def test_a_pool_without_usable_rows_gives_an_empty_selection() -> None:
    chosen = pick(np.full((3, 2), np.nan), 2)
    assert (chosen.indices, chosen.gains, chosen.information) == ([], [], 0.0)
    assert chosen.excluded == {"not finite": [0, 1, 2]}
    assert pick(np.zeros((0, 4)), 2).indices == []


def test_bases_and_epsilons_stand_beside_the_gains() -> None:
    chosen = pick(WORKED, 3)
    assert chosen.bases == pytest.approx([math.log(10), math.log(2), math.log(3)])
    differences = np.array(chosen.gains) - np.array(chosen.bases)
    assert chosen.epsilons == pytest.approx(differences.tolist(), abs=1e-12)
    assert max(chosen.epsilons) <= 0
    assert chosen.information == pytest.approx(3.465736, abs=5e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e9])
def test_relative_alpha_makes_the_choice_independent_of_the_scale(scale: float) -> None:
    """The η inside the conflict has to follow the scale too."""
    G = np.random.default_rng(5).normal(size=(30, 4))
    here, there = pick(G, 12, alpha="relative"), pick(scale * G, 12, alpha="relative")
    assert here.alpha == pytest.approx(1 / np.square(G).sum(axis=1).mean())
    assert there.alpha == pytest.approx(here.alpha / scale**2)
    assert there.indices == here.indices
    assert there.gains == pytest.approx(here.gains, rel=1e-9)
    assert there.conflicts == pytest.approx(here.conflicts, rel=1e-9)


def test_changed_picks_are_counted_against_the_same_number_without_penalty() -> None:
    assert pick(WORKED, 3, penalty=0.5).trace["changed_by_penalty"] == 1  # [0,3,1] vs [0,2,3]
    assert pick(WORKED, 3, penalty=0.1).trace["changed_by_penalty"] == 0  # another order
    assert pick(WORKED, 2, penalty=0.1).trace["changed_by_penalty"] == 1  # [0,3] vs [0,2]
    assert pick(WORKED, 2, penalty=0.0).trace["changed_by_penalty"] == 0
    assert pick(WORKED, 3, penalty=0.5, stop_ratio=0.29).trace["changed_by_penalty"] == 1


@pytest.mark.parametrize(
    "options",
    [
        {"penalty": -0.1},
        {"penalty": math.nan},
        {"penalty": math.inf},
        {"penalty": "much"},
        {"penalty": None},
        {"alpha": 0},
        {"alpha": -1.0},
        {"alpha": math.nan},
        {"alpha": "relativ"},
        {"alpha": True},
        {"alpha": None},
        {"scale": "units"},
        {"clip_quantile": 0.0},
        {"clip_quantile": 1.5},
        {"clip_quantile": "most"},
        {"stop_ratio": -0.1},
        {"stop_ratio": 1.1},
        {"stop_ratio": math.nan},
        {"stop_ratio": "half"},
        {"keep_zero": "no"},
        {"stop_inclusive": 1},
    ],
)
def test_options_out_of_range_are_input_errors(options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(InputError, match=rf"^{name}="):
        selector(**options)


def test_alpha_beyond_all_floats_is_an_input_error() -> None:
    with pytest.raises(InputError, match="too large"):
        pick(1e5 * WORKED, 2, alpha=1e300)


def test_numpy_scalars_are_numbers() -> None:
    options = {"penalty": np.float32(0.5), "alpha": np.int64(1), "stop_ratio": np.float32(0)}
    assert pick(WORKED, 3, **options).indices == [0, 3, 1]


def test_without_gradients_there_is_nothing_to_select_by() -> None:
    signals = Signals(["a"], ["x"], np.ones(1, dtype=int))
    with pytest.raises(KeyError, match="gradients was not read"):
        selector().select(signals, 1, RNG, [0])
