"""Weights before the greedy: every maximiser, budget and order; w of one is the unit scale."""

from __future__ import annotations

import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spice
from spice.errors import InputError
from spice.selectors.spice import Spice
from spice.signals.reliability import Consensus, Validation
from spice.submodular.objective import MAXIMIZERS


def selector(penalty: float = 0.0, maximizer: str = "auto", **mix: object) -> Spice:
    return Spice(
        penalty,
        10.0,
        "unit",
        0.95,
        None,
        False,
        False,
        "exact",
        maximizer,
        Validation(),
        "auto",
        **mix,
    )  # type: ignore[arg-type]


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(3, 60)), int(rng.integers(2, 20))
    weights = rng.uniform(0, 1.5, size=n) * (rng.random(n) < 0.8)
    return rng.normal(size=(n, d)) * np.exp(rng.normal(size=(n, 1))), weights


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(MAXIMIZERS), st.sampled_from([0.0, 0.1, 0.5]))
def test_it_is_the_greedy_on_rows_scaled_by_hand(seed: int, way: str, penalty: float) -> None:
    G, weights = problem(seed)
    k = 1 + seed % 10
    chosen = selector(penalty, way).select_gradients(
        G, range(len(G)), k, range(len(G)), weights=weights
    )
    kept = np.flatnonzero(weights > 0)
    scaled = (G / np.linalg.norm(G, axis=1, keepdims=True) * weights[:, None])[kept]
    steps = plain.spice(scaled, min(k, len(kept)), alpha=10.0, penalty=penalty)
    assert chosen.indices == [int(kept[step.pick]) for step in steps]
    assert chosen.gains == pytest.approx([step.gain for step in steps])
    assert chosen.weights == pytest.approx(weights[chosen.indices])
    assert chosen.excluded.get("not trusted", []) == np.flatnonzero(weights == 0).tolist()


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_with_all_rows_trusted_alike_the_picks_are_those_of_the_unit_scale(seed: int) -> None:
    G, _ = problem(seed)
    k, options = 1 + seed % 12, {"alpha": 10.0, "penalty": 0.1}
    ones = spice.select(G, k, weights=np.ones(len(G)), **options)  # type: ignore[arg-type]
    unit = spice.select(G, k, scale="unit", **options)  # type: ignore[arg-type]
    assert ones.indices == unit.indices == ones.without_weights
    assert ones.gains == unit.gains


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_and_smaller_budgets_change_nothing(seed: int) -> None:
    G, weights = problem(seed)
    order = np.random.default_rng(seed).permutation(len(G))
    ids = [f"{i:03}" for i in range(len(G))]
    k = len(np.flatnonzero(weights)) // 2 + 1
    one = selector().select_gradients(G, ids, k, range(len(G)), weights=weights)
    moved = selector().select_gradients(
        G[order], [ids[i] for i in order], k, range(len(G)), weights=weights[order]
    )
    assert [int(order[i]) for i in moved.indices] == one.indices
    smaller = selector().select_gradients(G, ids, k // 2, range(len(G)), weights=weights)
    assert smaller.indices == one.indices[: k // 2]


def test_shares_of_sources_hold_for_weighed_rows_too() -> None:
    G, sources = np.random.default_rng(1).normal(size=(60, 8)), ["a"] * 40 + ["b"] * 20
    weights = np.where(np.arange(60) < 40, 1.0, 0.1)
    chosen = selector(stratify="source").select_gradients(
        G, range(60), 12, range(60), weights=weights, sources=sources
    )
    assert sorted(sources[i] for i in chosen.indices) == ["a"] * 8 + ["b"] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"within": "group"}, r"^within="),
        ({"share": 0.0}, r"^share="),
        ({"copies": 1.1}, r"^copies="),
        ({"references": 1}, r"^references="),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    given = {"within": "source", "share": 0.1, "copies": 0.98, "references": 2048, "seed": 0}
    with pytest.raises(InputError, match=message):
        Consensus(**{**given, **options})  # type: ignore[arg-type]


def test_only_directions_can_be_weighed() -> None:
    with pytest.raises(InputError, match=r"scale=raw"):
        Spice(0.0, 10.0, "raw", 0.95, None, False, False, "exact", "auto", Validation(), "auto")


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0], np.ones((3, 1))])
def test_weights_from_outside_are_checked(weights: object) -> None:
    with pytest.raises(InputError, match="weights must be"):
        spice.select(np.eye(3), 2, weights=weights)


def test_reliability_for_gradients_from_anywhere() -> None:
    import torch

    rng = np.random.default_rng(0)
    G = np.concatenate([1 + 0.5 * rng.normal(size=(60, 12)), rng.normal(size=(30, 12))])
    found = spice.reliability(torch.tensor(G))
    weights = found.weights()
    assert np.median(weights[:60]) > 1.3 * np.median(weights[60:])
    assert 0.1 < found.untrustworthy_share < 0.6
    assert spice.reliability(G, ["one"] * 90).weights() == pytest.approx(weights)
    with pytest.raises(InputError, match="sources: 2 for 90"):
        spice.reliability(G, ["a", "b"])
    with pytest.raises(InputError, match=r"^share=2"):
        spice.reliability(G, share=2)
