"""IFD against its definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Selection, Signals
from spice.selectors.ifd import Ifd, ifd

WORKED = np.array([(0.5, 1.0), (2.0, 3.0), (1.2, 1.0)])
RNG = np.random.default_rng(0)


def pick(losses: np.ndarray, k: int, ratio: str, ids: list[str] | None = None) -> Selection:
    n = len(losses)
    signals = Signals(ids or [f"{i:02}" for i in range(n)], ["a"] * n, np.ones(n), losses=losses)
    return Ifd(ratio, None).select(signals, k, RNG, range(n))


def test_methods_section_3_worked_example() -> None:
    assert ifd(WORKED, "loss") == pytest.approx([0.5, 2 / 3, 1.2])
    assert ifd(WORKED, "perplexity") == pytest.approx([0.6065, 0.3679, 1.2214], abs=5e-5)
    assert pick(WORKED, 3, "loss").indices == [1, 0]
    assert pick(WORKED, 3, "perplexity").indices == [0, 1]
    assert pick(WORKED, 3, "loss").excluded == {"instruction does not help": [2]}


def test_only_the_loss_ratio_keeps_a_score_of_one() -> None:
    losses = np.array([(2.0, 2.0), (1.0, 2.0)])
    assert pick(losses, 2, "loss").indices == [0, 1]
    assert pick(losses, 2, "perplexity").indices == [1]


@pytest.mark.parametrize("direct", [0.0, np.nan])
def test_rows_without_a_valid_loss_are_left_out_and_listed(direct: float) -> None:
    chosen = pick(np.array([(0.5, direct), (0.5, 1.0)]), 2, "loss")
    assert (chosen.indices, chosen.excluded) == ([1], {"no valid loss": [0]})


losses = st.lists(st.tuples(st.floats(0.01, 9), st.floats(0.01, 9)), min_size=1, max_size=12).map(
    np.array
)


@given(losses, st.integers(1, 12), st.sampled_from(["loss", "perplexity"]))
def test_no_score_above_one_is_chosen_and_the_pools_order_changes_nothing(
    given_losses: np.ndarray, k: int, ratio: str
) -> None:
    chosen = pick(given_losses, k, ratio)
    helped = given_losses[:, 0] <= given_losses[:, 1]
    scores = ifd(given_losses, ratio)
    kept = scores <= 1 if ratio == "loss" else scores < 1
    assert chosen.k == min(k, int(kept.sum()))
    assert all(helped[chosen.indices])
    assert chosen.scores == sorted(chosen.scores or [], reverse=True)
    order = np.random.default_rng(k).permutation(len(given_losses))
    other = pick(given_losses[order], k, ratio, [f"{i:02}" for i in order])
    assert [int(order[i]) for i in other.indices] == chosen.indices


def test_another_ratio_is_refused() -> None:
    with pytest.raises(InputError, match=r"ratio=odds"):
        Ifd("odds", None)
