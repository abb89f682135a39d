"""Measures of diversity: the worked numbers, and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from clouds import pools
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.submodular import diversity
from spice.submodular.diversity import (
    coverage,
    density_weights,
    log_determinant_distance,
    novel_sum,
    unit,
)

WORKED = np.array([(1, 0), (0, 1), (0.5**0.5, 0.5**0.5)])


def test_the_worked_numbers() -> None:
    """METHODS 1.8."""
    assert novel_sum(WORKED) == pytest.approx(0.218843, abs=1e-6)
    sigma = density_weights(WORKED, WORKED, nearest=1)
    assert novel_sum(WORKED, sigma) == pytest.approx(0.285932, abs=1e-6)


def plain_novel_sum(rows: np.ndarray, sigma: np.ndarray) -> float:
    found = []
    for i, x in enumerate(rows):
        distances = sorted(0.0 if i == j else max(0.0, 1 - x @ y) for j, y in enumerate(rows))
        weighed = sum(sigma[i] * d / r for r, d in enumerate(distances, start=1))
        found.append(weighed / sum(1 / r for r in range(1, len(rows) + 1)))
    return float(np.mean(found))


@settings(max_examples=40)
@given(pools(), st.integers(1, 7))
def test_it_is_what_a_plain_loop_finds_in_any_blocks(G: np.ndarray, block: int) -> None:
    rows = unit(G)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "BLOCK", block)
        sigma = density_weights(rows, rows, nearest=3) if len(rows) > 1 else np.ones(len(rows))
        assert novel_sum(rows, sigma) == pytest.approx(plain_novel_sum(rows, sigma), rel=1e-9)
        order = np.random.default_rng(0).permutation(len(rows))
        assert novel_sum(rows[order]) == pytest.approx(novel_sum(rows), rel=1e-9, abs=1e-12)


def test_copies_are_no_diversity() -> None:
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(40, 20)))
    twice = np.concatenate([rows[:20], rows[:20]])
    assert novel_sum(twice) < novel_sum(rows)
    assert log_determinant_distance(twice) > log_determinant_distance(rows)
    assert log_determinant_distance(np.eye(5), gamma=50.0) == pytest.approx(0, abs=1e-9)


def test_the_gap_to_orthogonal_rows_by_hand() -> None:
    """−log det of [[1, k], [k, 1]] over two rows."""
    rows = np.array([(1.0, 0.0), (0.6, 0.8)])
    k = np.exp(-(2 - 2 * 0.6))
    assert log_determinant_distance(rows) == pytest.approx(-np.log(1 - k * k) / 2)


def test_coverage_counts_clusters_once() -> None:
    clusters = np.array([0, 0, 1, 2, 2, 3])
    assert coverage(clusters, np.array([0, 1, 3])) == 0.5
    assert coverage(clusters, np.array([], dtype=int)) == 0
