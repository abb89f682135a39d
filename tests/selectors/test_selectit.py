"""SelectIT against its worked example."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Signals
from spice.selectors.selectit import SelectIt, model_score, sentence_score, token_score

REQUEST = "{instruction} {response}"
ONE, OTHER = np.array([0.05, 0.05, 0.1, 0.2, 0.1]), np.array([0.1, 0.1, 0.2, 0.3, 0.3])


def test_methods_section_6_worked_example() -> None:
    assert token_score(ONE, "softmax") == pytest.approx(0.213858, abs=5e-7)
    assert token_score(ONE, "linear") == pytest.approx(1.0)
    assert token_score(OTHER, "softmax") == pytest.approx(0.100764, abs=5e-7)
    both = token_score(np.array([ONE, OTHER]), "softmax")
    assert sentence_score(both, 0.2) == pytest.approx(0.155552, abs=5e-7)


def test_a_certain_five_is_squashed_by_the_softmax() -> None:
    certain = np.array([0.0, 0, 0, 0, 1])
    assert token_score(certain, "softmax") == pytest.approx(1.2788, abs=5e-5)
    assert token_score(certain, "linear") == 5.0


@given(st.floats(0.01, 1), st.sampled_from(["softmax", "linear"]))
def test_no_preference_scores_nothing(p: float, normalisation: str) -> None:
    assert token_score(np.full(5, p), normalisation) == pytest.approx(0, abs=1e-12)


@given(
    st.lists(st.floats(0.01, 1), min_size=5, max_size=5), st.floats(0.01, 100),
    st.sampled_from(["softmax", "linear"]),
)  # fmt: skip
def test_only_the_shares_among_the_grades_count(
    p: list[float], factor: float, normalisation: str
) -> None:
    score = token_score(np.array(p), normalisation)
    assert token_score(factor * np.array(p), normalisation) == pytest.approx(score, rel=1e-9)


def test_rows_that_no_request_fits_are_left_out_and_ties_go_to_the_smaller_id() -> None:
    ratings = np.array([[OTHER, OTHER], [ONE, ONE], [ONE, ONE], [ONE * np.nan, ONE]])
    signals = Signals(["0", "2", "1", "3"], ["a"] * 4, np.ones(4), ratings=ratings)
    selector = SelectIt([REQUEST, REQUEST], "softmax", 0.2, [])
    chosen = selector.select(signals, 4, np.random.default_rng(0), range(4))
    assert chosen.indices == [2, 1, 0]
    assert chosen.excluded == {"a request does not fit": [3]}


def test_models_are_weighted_by_their_parameters() -> None:
    scores = np.array([[1.0, 4.0], [2.0, 0.0]])  # two rows, two models
    assert model_score(scores, np.array([3.0, 1.0])).tolist() == [1.75, 1.5]
    ratings = np.array([[[OTHER], [ONE]], [[ONE], [ONE]]])  # n × models × q × 5
    sizes = np.array([1.0, 2.0])
    signals = Signals(["0", "1"], ["a"] * 2, np.ones(2), ratings=ratings, rater_sizes=sizes)
    chosen = SelectIt([REQUEST], "softmax", 0.2, ["other"]).select(
        signals, 2, np.random.default_rng(0), range(2)
    )
    assert chosen.indices == [1, 0]
    assert chosen.scores == pytest.approx([0.213858, (0.100764 + 2 * 0.213858) / 3], abs=5e-7)


def test_one_proxy_asks_for_no_sizes() -> None:
    assert set(SelectIt([REQUEST], "softmax", 0.2, []).needs) == {"ratings"}
    more = SelectIt([REQUEST], "softmax", 0.2, ["folder"])
    assert set(more.needs) == {"ratings", "rater_sizes"}
    readers = [reader.path for signal in more.needs.values() for reader in signal.readers()]
    assert readers == ["folder"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (([REQUEST], "odd", 0.2), "normalisation=odd"),
        (([], "linear", 0.2), "must be a list of requests"),
        ((["{instruction}"], "linear", 0.2), "lacks"),
        (([REQUEST], "linear", -1.0), "penalty=-1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(options: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SelectIt(*options, [])
