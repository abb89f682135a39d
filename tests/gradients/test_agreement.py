"""Support, opposition and trust: against a plain loop, by hand, and whatever the order of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.gradients import agreement as module
from spice.gradients.agreement import (
    Agreement,
    agreement,
    cosines,
    effective_rows,
    judging_groups,
    nearest_example,
)
from spice.storage.rows import KnownRows

OPTIONS = {"share": 0.1, "copies": 0.98, "references": 2048, "seed": 0}


def judged(gradients: np.ndarray, groups: np.ndarray | None = None, **options: float) -> Agreement:
    groups = np.zeros(len(gradients), dtype=np.int64) if groups is None else groups
    return agreement(gradients, groups, **{**OPTIONS, **options})  # type: ignore[arg-type]


def plain(gradients: np.ndarray, groups: np.ndarray, share: float, copies: float) -> np.ndarray:
    """Support and opposition, n × 2, by loops over rows."""
    found = np.full((len(gradients), 2), np.nan)
    unit = gradients / np.maximum(np.linalg.norm(gradients, axis=1, keepdims=True), 1e-300)
    living = [x for x in range(len(gradients)) if gradients[x].any()]
    for x in living:
        peers = [y for y in living if groups[y] == groups[x]]
        votes = []
        for y in peers:
            cosine = float(unit[x] @ unit[y])
            alike = sum(float(unit[y] @ unit[z]) > copies for z in peers)
            if cosine <= copies:
                votes.append((cosine, 1 / alike))
        for side, sign in enumerate((1, -1)):
            left = mass = min(max(1.0, share * sum(v for _, v in votes)), sum(v for _, v in votes))
            total = 0.0
            for cosine, vote in sorted(votes, key=lambda pair: -sign * pair[0]):
                taken = min(vote, left)
                total, left = total + taken * sign * cosine, left - taken
            found[x, side] = total / mass if mass else np.nan
    return found


@st.composite
def pools(draw: st.DrawFn, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    n, seed = draw(st.integers(2, 40)), draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(n, draw(st.integers(least, least + 4))))
    copied = rng.integers(0, n, size=draw(st.integers(0, 5)))
    gradients = np.concatenate([gradients, gradients[copied] * rng.uniform(0.5, 2)])
    return gradients, rng.integers(0, draw(st.integers(1, 3)), size=len(gradients))


def test_the_worked_numbers_of_the_raw_consensus() -> None:
    """METHODS: one source, the single largest cosine in place of the tenth."""
    gradients = np.array([(1, 0), (0.8, 0.6), (0.6, 0.8), (-1, 0), (0, -2)])
    found = judged(gradients)
    assert np.maximum(found.support, 0) == pytest.approx([0.8, 0.96, 0.96, 0.0, 0.0], abs=1e-12)
    assert found.net == pytest.approx([-0.2, 0.16, 0.16, -1.0, -0.8], abs=1e-12)


@settings(max_examples=60)
@given(pools(), st.sampled_from([0.1, 0.3, 1.0]))
def test_it_is_what_a_plain_loop_finds(pool: tuple[np.ndarray, np.ndarray], share: float) -> None:
    gradients, groups = pool
    found = judged(gradients, groups, share=share)
    expected = plain(gradients, groups, share, OPTIONS["copies"])
    assert np.stack([found.support, found.opposition], axis=1) == pytest.approx(
        expected, abs=1e-9, nan_ok=True
    )


@settings(max_examples=40)
@given(pools(), st.integers(0, 1000))
def test_the_order_and_length_of_rows_change_nothing(
    pool: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    gradients, groups = pool
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(gradients))
    scales = rng.uniform(0.1, 10, size=(len(gradients), 1))
    weights, moved = judged(gradients, groups), judged((gradients * scales)[order], groups[order])
    assert moved.net == pytest.approx(weights.net[order], abs=1e-9, nan_ok=True)
    assert moved.weights() == pytest.approx(weights.weights()[order], abs=1e-6)


@settings(max_examples=40)
@given(pools(least=10), st.integers(0, 1000))  # so wide that only copies are near copies
def test_copies_of_a_row_make_neither_it_nor_others_more_trusted(
    pool: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    gradients, groups = pool
    x = seed % len(gradients)
    more = np.concatenate([gradients, np.repeat(gradients[[x]], 9, axis=0)])
    again = np.concatenate([groups, np.repeat(groups[[x]], 9)])
    before, after = judged(gradients, groups), judged(more, again)
    n = len(gradients)
    assert after.net[:n] == pytest.approx(before.net, abs=1e-9, nan_ok=True)
    assert after.weights()[:n] == pytest.approx(before.weights(), abs=1e-6)
    assert after.weights()[n:] == pytest.approx(np.repeat(before.weights()[x], 9), abs=1e-6)


def test_blocks_and_single_precision_change_nothing_but_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(200, 40)).astype(np.float32)
    whole = judged(gradients)
    monkeypatch.setattr(module, "COLUMNS", 7)
    monkeypatch.setattr(module, "BLOCK", 13)
    monkeypatch.setattr(module, "SORTED", 1000)
    assert judged(gradients).net == pytest.approx(whole.net, abs=1e-9)
    monkeypatch.setattr(module, "FEW_ROWS", 10)
    assert judged(gradients).net == pytest.approx(whole.net, abs=1e-5)


def test_the_strength_follows_from_the_share_of_untrustworthy_rows() -> None:
    rng = np.random.default_rng(0)
    towards = np.ones(30)
    clean = judged(towards + 0.3 * rng.normal(size=(101, 30)))
    assert clean.untrustworthy(0) == 0
    typical = np.median(clean.net)
    assert clean.weights() == pytest.approx((clean.net / typical) ** 0.25)
    noisy = np.concatenate([towards + 0.3 * rng.normal(size=(60, 30)), rng.normal(size=(41, 30))])
    found = judged(noisy)
    share, weights = found.untrustworthy(0), found.weights()
    assert 0.2 < share < 0.7
    ordered = np.sort(found.net)
    typical = ordered[int(np.ceil(101 * (1 + share) / 2)) - 1]
    expected = (np.maximum(found.net, 0) / typical) ** (0.25 + share / 2)
    assert weights == pytest.approx(expected)
    assert np.median(weights[:60]) > 3 * np.median(weights[60:])


def test_where_half_is_untrustworthy_information_is_in_proportion_to_consensus() -> None:
    net = np.array([-3.0, 1.0, 2.0, 4.0])
    found = Agreement(net, np.zeros(4), np.zeros(4, dtype=np.int64), np.ones(4))
    assert found.untrustworthy(0) == 0.5
    assert (found.weights() ** 2).tolist() == pytest.approx([0, 0.5, 1, 2])


def test_where_nobody_can_be_trusted_nobody_is() -> None:
    net = np.array([-3.0, -1.0, 0.0])
    found = Agreement(net, np.zeros(3), np.zeros(3, dtype=np.int64), np.ones(3))
    assert found.untrustworthy(0) == 1
    assert found.weights().tolist() == [0, 0, 0]


def test_rows_without_direction_have_no_part_in_it() -> None:
    gradients = np.random.default_rng(0).normal(size=(20, 5))
    worse = np.concatenate([gradients, np.zeros((1, 5)), np.full((1, 5), np.nan)])
    found = judged(worse)
    assert found.net[:20] == pytest.approx(judged(gradients).net)
    assert np.isnan(found.net[20:]).all()
    assert found.weights()[20:].tolist() == [0.0, 0.0]


def test_voters_of_a_large_group_are_drawn_by_name() -> None:
    rng = np.random.default_rng(0)
    gradients, order = rng.normal(size=(300, 10)), rng.permutation(300)
    names = [f"row {i}" for i in range(300)]
    groups = np.zeros(300, dtype=np.int64)
    sampled = {**OPTIONS, "references": 40}
    one = agreement(gradients, groups, names=names, **sampled)  # type: ignore[arg-type]
    other = agreement(gradients[order], groups, names=[names[i] for i in order], **sampled)  # type: ignore[arg-type]
    assert np.count_nonzero(one.votes) == 40
    assert other.net == pytest.approx(one.net[order])
    nameless = [judged(g, references=40).net for g in (gradients, gradients[order])]
    assert nameless[1] == pytest.approx(nameless[0][order])
    assert judged(gradients, references=40, seed=1).net != pytest.approx(nameless[0])


def test_small_sources_judge_together() -> None:
    sources = ["a"] * 40 + ["b"] * 3 + ["c"] * 2
    groups = judging_groups(sources, np.ones(45, dtype=bool))
    assert len(set(groups[:40])) == 1
    assert len(set(groups[40:])) == 1
    assert groups[0] != groups[40]
    assert not judging_groups(None, np.ones(3, dtype=bool)).any()


def test_the_nearest_example_decides_and_never_below_zero() -> None:
    gradients = np.array([(1.0, 0.0), (1.0, 1.0), (-1.0, -1.0), (0.0, 0.0)])
    examples = np.array([(0.0, 3.0), (1.0, 0.0), (0.0, 0.0)])
    assert nearest_example(gradients, examples) == pytest.approx([1, 0.5**0.5, 0, 0])
    assert nearest_example(gradients, examples[2:]).tolist() == [0, 0, 0, 0]


def test_cosines_are_those_of_known_products() -> None:
    class Known(KnownRows):
        def __init__(self, values: np.ndarray) -> None:
            self.values = values
            self.shape, self.dtype = values.shape, values.dtype

        def known_products(self) -> np.ndarray:
            return self.values @ self.values.T

        def __len__(self) -> int:
            return len(self.values)

        def __getitem__(self, which: object) -> np.ndarray:
            return self.values[which]  # type: ignore[index]

    gradients, rows = np.random.default_rng(0).normal(size=(12, 5)), np.arange(12)
    found = cosines(Known(gradients), rows, rows[3:])
    assert found.cpu().numpy() == pytest.approx(cosines(gradients, rows, rows[3:]).cpu().numpy())


def test_effective_rows() -> None:
    assert effective_rows(np.ones(7)) == pytest.approx(7)
    assert effective_rows(np.array([2.0, 0.0, 2.0])) == pytest.approx(2)
    assert effective_rows(np.zeros(3)) == 0
