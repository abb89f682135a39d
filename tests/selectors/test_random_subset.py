"""Random and full: exact counts, exact quotas, and no dependence on the order of the pool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Signals
from spice.selectors.full import Full
from spice.selectors.random_subset import RandomSubset

SOURCES = ["math"] * 30 + ["code"] * 15 + ["chat"] * 5


def signals(order: list[int] | None = None) -> Signals:
    rows = order or list(range(50))
    ids = [f"{i:02}" for i in rows]
    return Signals(ids, [SOURCES[i] for i in rows], np.ones(50, dtype=int))


def draw(stratify: str | None, k: int, seed: int, order: list[int] | None = None) -> list[str]:
    pool = signals(order)
    rng = np.random.default_rng(seed)
    selection = RandomSubset(stratify=stratify).select(pool, k, rng, range(50))
    return [pool.ids[i] for i in selection.indices]


@pytest.mark.parametrize("stratify", [None, "source"])
@given(st.integers(0, 60), st.integers(0, 1000), st.permutations(range(50)))
def test_the_seed_alone_decides(stratify: str | None, k: int, seed: int, order: list[int]) -> None:
    drawn = draw(stratify, k, seed)
    assert len(drawn) == len(set(drawn)) == min(k, 50)
    assert drawn == draw(stratify, k, seed, order)


@pytest.mark.parametrize("stratify", [None, "source"])
def test_other_seeds_draw_others(stratify: str | None) -> None:
    assert len({tuple(draw(stratify, 10, seed)) for seed in range(20)}) == 20


def test_uniform_draws_each_row_equally_often() -> None:
    counts = np.zeros(50)
    for seed in range(2000):
        counts[[int(name) for name in draw(None, 10, seed)]] += 1
    # 2,000 draws of a fifth: 400 ± 18; five standard deviations
    assert np.abs(counts - 400).max() < 90


@given(st.integers(0, 50), st.integers(0, 100))
def test_stratified_keeps_the_mix_to_within_one_row(k: int, seed: int) -> None:
    sources = [SOURCES[int(name)] for name in draw("source", k, seed)]
    for name in ("math", "code", "chat"):
        assert abs(sources.count(name) - k * SOURCES.count(name) / 50) < 1


def test_ineligible_rows_are_never_drawn() -> None:
    for stratify in (None, "source"):
        rng = np.random.default_rng(0)
        chosen = RandomSubset(stratify=stratify).select(signals(), 50, rng, [3, 31, 49])
        assert sorted(chosen.indices) == [3, 31, 49]


def test_full_takes_every_eligible_row_in_the_order_of_the_pool() -> None:
    rng = np.random.default_rng(0)
    assert Full().select(signals(), 2, rng, [9, 4, 7]).indices == [4, 7, 9]


def test_an_unknown_stratum_is_an_input_error() -> None:
    with pytest.raises(InputError, match="stratify=length"):
        RandomSubset(stratify="length")
