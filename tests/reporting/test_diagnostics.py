"""What a report says, against the same computed by hand, and when it warns."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spice.records import Selection, Signals
from spice.reporting.diagnostics import report, shares, spearman, warnings_of
from spice.reporting.lines import sources_line
from spice.selectors.spice import Spice

WORKED = np.array([(3, 0), (2, 0), (-1, 1), (0, 1)], dtype=float)


def described(G: np.ndarray, k: int, penalty: float = 0.1, **given: Any) -> dict[str, Any]:
    n = len(G)
    sources = given.get("sources", ["pool"] * n)
    lengths = np.array(given.get("lengths", [1] * n))
    signals = Signals([f"{i:04}" for i in range(n)], sources, lengths, gradients=G)
    options = {
        "alpha": 1.0,
        "scale": "raw",
        "clip_quantile": 0.95,
        "stop_ratio": None,
        "stop_inclusive": False,
        "keep_zero": False,
        "maximizer": "auto",
        "fisher": "exact",
        "reliability": None,
        "partitions": "auto",
    }
    selector = Spice(penalty=penalty, **{**options, **given.get("options", {})})
    selection = selector.select(signals, k, np.random.default_rng(0), range(n))
    return report(selection, signals)


def test_every_quantity_of_the_worked_example() -> None:
    facts = described(
        WORKED, 3, 0.5, sources=["math", "math", "code", "code"], lengths=[1, 2, 4, 8]
    )  # picks 0, 3, 1; λ = 0 would pick 0, 2, 3
    assert facts["information"] == pytest.approx(3.332205, abs=5e-7)
    assert facts["alpha"] == 1.0
    assert facts["alpha_median_norm"] == pytest.approx(3.0)  # of 9, 4, 2, 1
    assert facts["conflicting_share"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert facts["pool_conflict"] == 1 / 4  # (-1, 1) against the mean (1, 1/2)
    assert facts["changed_by_penalty"] == 1
    assert facts["large_norm_picks"] == 1  # 5 % of four rows is taken to be one row
    assert facts["large_norm_share"] == pytest.approx(1 / 3)
    assert facts["norm_length_correlation"] == pytest.approx(-1.0)
    assert facts["median_length"] == {"pool": 3.0, "picked": 2.0}
    assert facts["sources"] == {
        "code": {"pool": 0.5, "picked": pytest.approx(1 / 3)},
        "math": {"pool": 0.5, "picked": pytest.approx(2 / 3)},
    }
    assert facts["mix_distance"] == pytest.approx(1 / 6)
    # picked 1,1,0,1 has ranks 3,3,1,3; lengths 1..4
    assert facts["picked_length_correlation"] == pytest.approx(-0.2581989)
    assert facts["excluded"] == {}


def test_rows_that_nobody_read_do_not_blur_the_pools_mean() -> None:
    G = np.vstack([WORKED, np.full((1, 2), np.nan)])
    assert described(G, 3)["pool_conflict"] == 1 / 4


def test_leverage_is_the_median_over_the_picks_of_spread_over_gap() -> None:
    G = np.random.default_rng(3).normal(size=(60, 5)) + 0.3
    facts = described(G, 12, 0.2)
    options = {"alpha": 1.0, "penalty": 0.2}
    picks = [step.pick for step in plain.spice(G, 12, **options)]
    expected = []
    for m in range(1, 12):
        rest = np.setdiff1d(np.arange(60), picks[:m])
        gains = plain.gains(G, picks[:m], 1.0)[rest]
        conflicts = plain.conflicts(G, picks[:m])[rest]
        ten = np.argsort(-gains)[:10]
        expected.append(0.2 * np.ptp(conflicts[ten]) / np.ptp(gains[ten]))
    assert facts["penalty_leverage"] == pytest.approx(np.median(expected), rel=1e-6)
    share = [np.mean(plain.conflicts(G, picks[:m])[np.setdiff1d(np.arange(60), picks[:m])] > 0)
             for m in range(1, 12)]  # fmt: skip
    assert facts["conflicting_share"] == pytest.approx(np.mean(share))


def test_changed_picks_are_those_that_fisher_would_not_have_made() -> None:
    G = np.random.default_rng(4).normal(size=(50, 6))
    facts = described(G, 20, 0.8)
    ours, fisher = (
        {step.pick for step in plain.spice(G, 20, alpha=1.0, penalty=p)} for p in (0.8, 0)
    )
    assert facts["changed_by_penalty"] == len(ours - fisher) > 0


def test_excluded_rows_are_counted() -> None:
    G = np.vstack([WORKED, np.zeros((2, 2)), [[np.nan, 0]]])
    assert described(G, 2)["excluded"] == {"not finite": 1, "zero gradient": 2}


def test_the_mixes_are_apart_by_what_would_have_to_change_its_source() -> None:
    assert described(WORKED, 4, sources=list("abcd"))["mix_distance"] == 0
    assert described(WORKED, 1, sources=list("abcd"))["mix_distance"] == 0.75
    assert described(WORKED, 0)["mix_distance"] is None


def test_the_mix_is_told_where_there_is_one() -> None:
    several = sources_line(described(WORKED, 1, sources=list("aabb")))
    assert several == "a 100% (pool 50%), b 0% (pool 50%); mix distance 50%"
    assert sources_line(described(WORKED, 1, sources=list("aaaa"))) == "a 100% (pool 100%)"


def test_of_many_sources_the_largest_are_told() -> None:
    shares = {f"s{i}": {"picked": 0.0, "pool": 0.01 * i} for i in range(12)}
    shares["s0"]["picked"] = 1.0
    told = sources_line({"sources": shares, "mix_distance": 0.5})
    assert told.startswith("s0 100% (pool 0%), s5 0% (pool 5%), ")
    assert told.endswith("s11 0% (pool 11%) and 4 more; mix distance 50%")


def test_what_the_selector_has_to_say_comes_first() -> None:
    options = {"quotas": {"few": 0.9}}
    warnings = described(
        np.vstack([WORKED, np.eye(2)]), 4, 0.0, sources=["few", *"aaaaa"], options=options
    )["warnings"]
    assert warnings[0].startswith("too few rows to fill a source's share: few has 1 of 4 picks")


# -- warnings ----------------------------------------------------------------------------------


def test_an_inert_penalty_is_warned_of() -> None:
    G = np.abs(np.random.default_rng(0).normal(size=(40, 5)))  # nothing conflicts
    (warning,) = described(G, 30, 0.5)["warnings"]
    assert "λ=0.5 changed no pick" in warning
    assert "0.0% of the candidates conflict" in warning


def test_a_penalty_that_changes_picks_is_not_warned_of() -> None:
    facts = described(np.random.default_rng(4).normal(size=(50, 6)), 40, 0.8)
    assert facts["changed_by_penalty"] > 0
    assert not facts["warnings"]


def test_no_penalty_is_no_inert_penalty() -> None:
    G = np.abs(np.random.default_rng(0).normal(size=(40, 5)))
    assert not described(G, 30, 0.0)["warnings"]


def wide_pool(*, giants: float) -> np.ndarray:
    """200 unit rows, ten of them ``giants`` times as long."""
    G = np.random.default_rng(1).normal(size=(200, 30))
    G /= np.linalg.norm(G, axis=1, keepdims=True)
    G[::20] *= giants
    return G


def test_weights_that_rule_are_meant_to() -> None:
    facts = described(wide_pool(giants=20), 30, 0.0)
    assert any("large norms rule" in warning for warning in warnings_of(facts, 0.0))
    assert not any("large norms" in told for told in warnings_of(facts, 0.0, weighed=True))


def test_ruling_norms_are_warned_of() -> None:
    facts = described(wide_pool(giants=20), 30, 0.0)
    assert facts["large_norm_picks"] == 10
    (warning,) = facts["warnings"]
    assert "a few large norms rule: 33% of the picks" in warning
    assert described(wide_pool(giants=20), 41, 0.0)["warnings"] == []  # 24 %


def test_the_first_pick_alone_does_not_rule() -> None:
    """It has the largest norm of all, whatever the pool."""
    for k in (1, 2, 3, 4):
        G = np.vstack([2 * np.eye(40)[:1], np.eye(40)[1:] * 1.5, np.eye(40)])
        facts = described(G[[0, *range(5, 30)]], k, 0.0)
        assert facts["large_norm_picks"] == 1
        assert not facts["warnings"]


def test_no_usable_row_and_no_pick_are_reported_like_any_other() -> None:
    for G, k in ((np.zeros((3, 2)), 2), (WORKED, 0)):
        facts = described(G, k)
        assert (facts["information"], facts["penalty_leverage"], facts["large_norm_share"]) == (
            0.0, 0.0, 0.0,
        )  # fmt: skip
        assert f"{facts['alpha_median_norm']:.3g}"


def test_a_report_is_strict_json() -> None:
    """Equal gains and unequal conflicts make a ratio without bound."""
    facts = described(np.array([[2.0, 0], [1, 0], [-1, 0], [1, 0]]), 2)
    assert facts["penalty_leverage"] > 1e6
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_a_selection_without_gains_is_described_by_what_it_has() -> None:
    signals = Signals(list("abcd"), ["x", "x", "x", "y"], np.array([1, 2, 3, 4]))
    facts = report(Selection(n=4, indices=[3, 2]), signals)
    assert facts["information"] is None
    assert facts["sources"] == {
        "x": {"pool": 0.75, "picked": 0.5},
        "y": {"pool": 0.25, "picked": 0.5},
    }
    assert facts["picked_length_correlation"] == pytest.approx(0.894427, abs=5e-7)
    assert facts["warnings"] == []
    assert "penalty_leverage" not in facts


# -- its parts ---------------------------------------------------------------------------------


def test_spearman_by_hand() -> None:
    assert spearman(np.array([1, 2, 3]), np.array([10, 20, 15])) == pytest.approx(0.5)
    assert spearman(np.array([1, 1, 2]), np.array([1, 2, 3])) == pytest.approx(math.sqrt(0.75))
    assert spearman(np.array([1, 1, 1]), np.array([1, 2, 3])) is None
    assert spearman(np.array([1]), np.array([1])) is None
    assert spearman(np.array([]), np.array([])) is None


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_spearman_sees_the_order_only(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    value = spearman(a, b)
    bent = spearman(np.exp(a), b.astype(float) ** 3)
    assert (value is None) == (bent is None) == (np.ptp(a) == 0 or np.ptp(b) == 0)
    if value is not None and bent is not None:
        assert -1 - 1e-12 <= value <= 1 + 1e-12
        assert bent == pytest.approx(value)
        assert spearman(b, a) == pytest.approx(value)
        assert spearman(-a, b) == pytest.approx(-value)
        # average ranks, as counted: how many are below, and half of how many are level
        ranks = [[np.sum(v < x) + np.sum(v == x) / 2 for x in v] for v in (a, b)]
        assert np.corrcoef(ranks)[0, 1] == pytest.approx(value)


def test_shares_list_every_source_of_the_pool() -> None:
    assert shares(["b", "a", "b", "b"], [0, 2]) == {
        "a": {"pool": 0.25, "picked": 0.0},
        "b": {"pool": 0.75, "picked": 1.0},
    }
    assert shares(["a"], []) == {"a": {"pool": 1.0, "picked": 0.0}}


def test_picks_that_short_answers_rule_are_a_warning_with_its_remedy() -> None:
    lengths = np.arange(1, 41)
    G = np.random.default_rng(0).normal(size=(40, 6)) * (10.0 / lengths)[:, None]
    facts = described(G, 6, lengths=lengths.tolist())
    [warning] = [w for w in facts["warnings"] if w.startswith("short answers rule")]
    assert "selector=spice_consensus" in warning
    assert f"{facts['norm_length_correlation']:+.2f}" in warning
    longer = described(G[::-1], 6, lengths=lengths.tolist())
    assert not any(w.startswith("short answers") for w in longer["warnings"])


@pytest.mark.parametrize(
    ("count", "why", "told"),
    [(5, "not finite", True), (4, "not finite", False), (9, "not trusted", False)],
)
def test_a_large_share_that_could_not_be_picked_is_warned_of(
    count: int, why: str, told: bool
) -> None:
    signals = Signals([f"{i:02}" for i in range(40)], ["x"] * 40, np.ones(40))
    facts = report(Selection(n=40, indices=[39], excluded={why: list(range(count))}), signals)
    assert (f"{count} {why}: of 40 rows" in " ".join(facts["warnings"])) == told


def test_picks_that_copy_each_other_are_counted_and_said() -> None:
    signals = Signals(["a", "a#2", "b", "a#3"], ["pool"] * 4, np.ones(4))
    facts = report(Selection(4, [0, 1, 2]), signals)
    assert facts["copies"] == 1
    assert any("1 of the picks are exact copies" in warning for warning in facts["warnings"])
    alone = report(Selection(4, [3, 2]), signals)
    assert alone["copies"] == 0
    assert alone["warnings"] == []
