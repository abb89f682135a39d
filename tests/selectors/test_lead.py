"""LEAD's bandit and utilities against their formulas, and whole runs on made-up losses."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.errors import InputError
from spice.models.lora import Lora
from spice.records import Signals
from spice.selectors.lead import (
    Lead,
    Rounds,
    difficulty,
    exp3_probabilities,
    expected_drop,
    scaled_last,
)
from spice.signals.experience import Experience
from spice.training.recipe import Recipe

RECIPE = Recipe(1, None, 1e-3, "linear", 0.0, 0.0, 1.0, 8, 8, 5)
WARMUP = Experience("random", 0.1, None, None, Lora(4, 8, 0.0, "all-linear"), RECIPE, 0)


def lead(**options: Any) -> Lead:
    given = {"clusters": 3, "share": 0.1, "uses": 2, "exploration": 0.1, "smoothing": 0.1}
    return Lead(WARMUP, **{**given, "learning_rate": 1e-3, "batch_size": 8, "seed": 42, **options})


def test_methods_section_7_lead_worked_examples() -> None:
    weights = np.ones(7)
    assert exp3_probabilities(weights, 0.1) == pytest.approx(np.full(7, 1 / 7))
    weights[2] *= math.exp(0.1 / 7 * 1 / (1 / 7))
    assert weights[2] == pytest.approx(1.105171, abs=5e-7)
    assert exp3_probabilities(weights, 0.1)[2] == pytest.approx(0.154276, abs=5e-7)
    assert expected_drop(4, 2, 0.25) == pytest.approx(1.635488, abs=5e-7)
    across = 0.25 * math.sqrt(8)
    assert (2 - across) / (6 - 2 * across) == pytest.approx(0.281935, abs=5e-7)  # β


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=9), st.floats(0.01, 1))
def test_chances_sum_to_one_and_none_is_below_its_floor(
    weights: list[float], exploration: float
) -> None:
    chances = exp3_probabilities(np.array(weights), exploration)
    assert chances.sum() == pytest.approx(1)
    assert (chances >= exploration / len(weights) * (1 - 1e-12)).all()


@given(st.floats(0, 9), st.floats(0, 9), st.floats(-1, 1))
def test_the_expected_drop_is_the_least_norm_between_two_steps(
    first: float, last: float, cosine: float
) -> None:
    ours = expected_drop(first, last, cosine)
    across = math.sqrt(first * last) * cosine
    betas = np.linspace(-3, 4, 701)
    mixed = betas**2 * first + (1 - betas) ** 2 * last + 2 * betas * (1 - betas) * across
    assert -1e-9 <= ours <= mixed.min() + 1e-9


def test_rewards_lie_between_the_worst_and_the_best_so_far() -> None:
    assert scaled_last([3.0]) == 0
    assert scaled_last([3.0, 3.0]) == 0
    assert scaled_last([1.0, 3.0]) == 1
    assert scaled_last([1.0, 3.0, 1.5]) == -0.5


def test_rows_that_the_prompt_does_not_help_count_as_easy() -> None:
    losses = np.array([(1.0, 2.0), (3.0, 2.0), (1.0, 0.0), (np.nan, np.nan)])
    assert difficulty(losses).tolist() == [0.5, 0, 0, 0]


def made_up(n: int, seed: int) -> Signals:
    rng = np.random.default_rng(seed)
    losses = rng.uniform(0.5, 3, (n, 2)).round(1)  # rounded: ties
    harder = losses.copy()
    harder[:, 1] += 1
    ids = [f"{i:03}" for i in rng.permutation(n)]
    sources = rng.choice(["a", "b"], n).tolist()
    return Signals(ids, sources, np.ones(n), losses=losses, experienced_losses=harder)


def play(rounds: Rounds, until: int = 10**6) -> Rounds:
    """Rounds whose rows lose a fifth of their loss, whatever the order of the pool."""
    while not rounds.done and rounds.number < until:
        drawn = rounds.draw()
        before = rounds.utilities[drawn.rows]
        rounds.observe(drawn, before, 0.2 * before.mean(), math.cos(rounds.number))
    return rounds


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_runs_take_k_rows_once_each_whatever_the_pools_order(n: int, k: int, seed: int) -> None:
    signals = made_up(n, seed)
    rounds = play(lead().begin(signals, k, seed, range(n)))
    assert len(rounds.picks) == len(set(rounds.picks)) == len(rounds.scores) == min(n, k)
    assert rounds.used.max() <= 2
    assert (rounds.used[rounds.picks] > 0).all()
    assert np.count_nonzero(rounds.used) == len(rounds.picks)
    order = np.random.default_rng(seed).permutation(n)
    moved = Signals(
        [signals.ids[i] for i in order], [signals.sources[i] for i in order], np.ones(n),
        losses=signals["losses"][order],
        experienced_losses=signals["experienced_losses"][order],
    )  # fmt: skip
    again = play(lead().begin(moved, k, seed, range(n)))
    assert [int(order[i]) for i in again.picks] == rounds.picks


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(0, 8))
def test_a_smaller_budget_is_the_beginning_of_a_larger_one(seed: int, until: int) -> None:
    signals = made_up(60, seed)
    small = play(lead().begin(signals, 20, seed, range(60)))
    large = play(lead().begin(signals, 40, seed, range(60)))
    whole_rounds = [row for row in small.picks if row in large.picks[: len(small.picks)]]
    assert len(whole_rounds) >= len(small.picks) - 2  # the last round may be cut
    begun = play(lead().begin(signals, 40, seed, range(60)), until)
    resumed = lead().begin(signals, 40, seed, range(60))
    kept = begun.progress()
    plain = json.loads(json.dumps({k: v for k, v in kept.items() if k != "first_drops"}))
    resumed.restore({**plain, "first_drops": kept["first_drops"]})
    assert play(resumed).picks == large.picks


def test_a_round_changes_its_rows_alone_and_as_the_formulas_say() -> None:
    signals = made_up(40, 3)
    rounds = lead().begin(signals, 30, 3, range(40))
    for number in range(12):
        drawn, utilities = rounds.draw(), rounds.utilities.copy()
        weights, first, last = rounds.weights.copy(), dict(rounds.first_drops), rounds.last_drop
        chance = rounds.probabilities()[drawn.cluster]
        before, cosine = utilities[drawn.rows] - 0.1, 0.3
        rounds.observe(drawn, before, 0.05 * number, cosine)
        drop = last
        if drawn.cluster in first:
            drop = expected_drop(first[drawn.cluster], last, cosine)
        expected = utilities.copy()
        expected[drawn.rows] = 0.9 * (before - drop) + 0.1 * utilities[drawn.rows]
        assert rounds.utilities == pytest.approx(expected)
        weights[drawn.cluster] *= math.exp(0.1 / 3 * scaled_last(rounds.rewards) / chance)
        assert rounds.weights == pytest.approx(weights / weights.max())
        assert rounds.last_drop == 0.05 * number
        if rounds.done:
            return


def test_rows_without_a_loss_are_left_out_and_listed() -> None:
    signals = made_up(6, 0)
    signals["losses"][2] = np.nan
    rounds = play(lead().begin(signals, 6, 0, range(6)))
    assert sorted(rounds.picks) == [0, 1, 3, 4, 5]
    assert rounds.selection().excluded == {"no valid loss": [2]}


@pytest.mark.parametrize(
    ("option", "value"),
    [("clusters", 0), ("uses", 0), ("batch_size", 0), ("share", 0.0), ("exploration", 0.0),
     ("smoothing", 1.0), ("learning_rate", 0.0)],
)  # fmt: skip
def test_impossible_settings_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{option}="):
        lead(**{option: value})
