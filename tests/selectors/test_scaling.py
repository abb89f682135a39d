"""What a selector sees of the gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spice.selectors.scaling import rescale
from spice.selectors.spice import Spice
from spice.submodular.kernel import Rows, squared_norms


def whole(G: np.ndarray, scale: str, quantile: float) -> Rows:
    """All rows are eligible."""
    return rescale(G, scale, quantile, range(len(G)))


@given(st.integers(0, 1000), st.floats(0.05, 1))
def test_scales_follow_their_formulas(seed: int, quantile: float) -> None:
    G = np.random.default_rng(seed).normal(size=(20, 7)).astype(np.float32)
    G *= np.linspace(0.1, 9, 20, dtype=np.float32)[:, None]
    G[3] = 0
    norms = np.sqrt((G.astype(float) ** 2).sum(axis=1))
    assert whole(G, "raw", quantile) is G

    unit = whole(G, "unit", quantile)[:]
    assert unit.dtype == np.float32
    assert not unit[3].any()
    others = np.delete(np.arange(20), 3)
    np.testing.assert_allclose(np.linalg.norm(unit[others], axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit[others] * norms[others, None], G[others], rtol=1e-5, atol=1e-7)

    clipped = whole(G, "clip", quantile)[:]
    limit = np.quantile(norms, quantile)
    np.testing.assert_allclose(
        np.linalg.norm(clipped.astype(float), axis=1), np.minimum(norms, limit), rtol=1e-6
    )
    below = norms < limit
    np.testing.assert_array_equal(clipped[below], G[below])


@pytest.mark.parametrize("scale", ["unit", "clip"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_stay_so_and_move_no_quantile(scale: str, bad: float) -> None:
    G = np.diag([1.0, 2, 3, 4, 5]).astype(np.float32)
    expected = whole(G[1:], scale, 0.5)[:]
    G[0, 2] = bad
    scaled = whole(G, scale, 0.5)[:]
    assert not np.isfinite(scaled[0]).all()
    assert not np.isfinite(squared_norms(whole(G, scale, 0.5))[0])
    np.testing.assert_array_equal(scaled[1:], expected)


@pytest.mark.parametrize("scale", ["unit", "clip"])
@pytest.mark.parametrize("maximizer", ["plain", "dual", "primal", "lazy", "blocked"])
def test_rows_made_equally_long_are_not_told_apart_by_rounding(scale: str, maximizer: str) -> None:
    """Else a batch's size would decide the first pick."""
    selector = Spice(0.1, 1.0, scale, 0.5, None, False, False, "exact", maximizer, None, "auto")
    G = np.random.default_rng(0).normal(size=(40, 9)).astype(np.float32)
    for moved in (G, G * np.float32(1 + 1e-6), G[:, ::-1]):
        picked = selector.select_gradients(moved, range(40), 5, range(40))
        longest = np.flatnonzero(np.linalg.norm(G, axis=1) >= np.median(np.linalg.norm(G, axis=1)))
        assert picked.indices[0] == (0 if scale == "unit" else longest[0])


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_norms_outlast_the_range_of_float32(size: float) -> None:
    """Squares of these underflow or overflow in float32."""
    G = np.array([[3 * size, 4 * size]], dtype=np.float32)
    np.testing.assert_allclose(whole(G, "unit", 1.0)[:], [[0.6, 0.8]], rtol=1e-6)


def test_only_eligible_rows_say_what_is_long() -> None:
    G = np.diag([1.0, 2, 3, 100])
    clipped = rescale(G, "clip", 1.0, [0, 1, 2])
    assert np.linalg.norm(clipped[:], axis=1).tolist() == [1, 2, 3, 3]


def test_a_selector_scales_what_it_is_given() -> None:
    G = np.array([[9.0, 0], [0, 2], [0.1, 0.1]])
    for scale, first in (("raw", 0), ("unit", 0), ("clip", 0)):
        selector = Spice(0.0, 1.0, scale, 0.5, None, False, False, "exact", "auto", None, "auto")
        found = selector.select_gradients(G, range(3), 1, range(3))
        assert found.indices == [first]
        squared = {"raw": 81.0, "unit": 1.0, "clip": 4.0}[scale]
        assert found.gains == [pytest.approx(np.log1p(squared))]
