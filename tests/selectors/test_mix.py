"""How many picks each source may have: shares, remainders, what is passed on, and errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.errors import InputError
from spice.selectors.mix import Mix, filled, largest_remainders
from spice.selectors.ranking import top
from spice.submodular.rooms import Places, Rooms

SOURCES = ["math"] * 6 + ["code"] * 3 + ["chat"]
few = settings(max_examples=100)
sizes = st.dictionaries(st.text("abcdef", min_size=1), st.integers(1, 10**6), min_size=1)


def rooms(mix: Mix, k: int, usable: Any = range(10)) -> Rooms:
    found = mix.rooms(SOURCES, range(10), usable, k)
    assert found is not None
    return found


def counts(mix: Mix, k: int, usable: Any = range(10)) -> Mapping[str, int]:
    return rooms(mix, k, usable).as_dict()


# -- largest remainders ------------------------------------------------------------------------


@few
@given(sizes, st.floats(0, 1))
def test_remainders_sum_to_k_and_exceed_no_source(sizes: dict[str, int], share: float) -> None:
    k = int(share * sum(sizes.values()))
    found = largest_remainders(sizes, k)
    assert sum(found.values()) == k
    for name, size in sizes.items():
        assert 0 <= found[name] <= size
        assert abs(found[name] * sum(sizes.values()) - k * size) < sum(sizes.values())


def test_equal_remainders_go_to_the_name_that_sorts_first() -> None:
    assert largest_remainders({"c": 1, "b": 1, "a": 1}, 1) == {"a": 1, "b": 0, "c": 0}
    # 2/3, 8/3 and 2/3 leave equal remainders, although not so in floats
    assert largest_remainders({"a": 1, "b": 4, "c": 1}, 4) == {"a": 1, "b": 3, "c": 0}


def test_nobody_gets_any_of_shares_that_are_all_zero() -> None:
    assert largest_remainders({"a": 0, "b": 0}, 3) == {"a": 0, "b": 0}
    assert largest_remainders({}, 3) == {}


def test_what_a_name_has_no_rows_for_is_passed_on_in_proportion() -> None:
    shares = {"a": Fraction(1, 2), "b": Fraction(3, 10), "c": Fraction(1, 5)}
    # a lacks 4 of its 5: 3 : 2 of 4 are 2.4 and 1.6
    assert filled(shares, {"a": 1, "b": 9, "c": 9}, 10) == {"a": 1, "b": 5, "c": 4}
    # c takes but 1 of the 2 that are its; then b alone has any left
    assert filled(shares, {"a": 1, "b": 9, "c": 3}, 10) == {"a": 1, "b": 6, "c": 3}
    assert filled(shares, {"a": 1, "b": 1, "c": 1}, 10) == {"a": 1, "b": 1, "c": 1}


@few
@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.integers(0, 9), st.integers(0, 30)),
        min_size=1,
    ),
    st.integers(0, 80),
    st.randoms(),
)
def test_all_is_placed_and_no_name_has_more_than_its_rows(
    given: dict[str, tuple[int, int]], k: int, random: Any
) -> None:
    shares = {name: share for name, (share, _) in given.items()}
    there = {name: size for name, (_, size) in given.items()}
    found = filled(shares, there, k)
    assert all(found[name] <= there[name] for name in given)
    assert sum(found.values()) == min(k, sum(there.values()))
    if k <= sum(there[name] for name, share in shares.items() if share):
        assert all(found[name] == 0 for name, share in shares.items() if not share)
    names = list(given)
    random.shuffle(names)
    assert filled({n: shares[n] for n in names}, there, k) == found


# -- rooms -------------------------------------------------------------------------------------


def test_without_a_mix_there_are_no_rooms() -> None:
    assert Mix().rooms(SOURCES, range(10), range(10), 5) is None
    assert Mix(quotas={}).rooms(SOURCES, range(10), range(10), 5) is None


def test_a_kept_mix_is_that_of_the_eligible_rows() -> None:
    assert counts(Mix(stratify="source"), 5) == {"chat": 1, "code": 1, "math": 3}
    some = Mix(stratify="source").rooms(SOURCES, range(9), range(9), 3)
    assert some is not None
    assert some.as_dict() == {"code": 1, "math": 2}
    assert some.notes == []


def test_quotas_leave_the_rest_to_the_other_sources() -> None:
    assert counts(Mix(quotas={"code": 0.3, "math": 0.7}), 8) == {"chat": 0, "code": 2, "math": 6}
    # 0.65 of 4 is 2.6; math and chat share 1.4 as 6 : 1, 1.2 and 0.2
    assert counts(Mix(quotas={"code": 0.65}), 4) == {"chat": 0, "code": 3, "math": 1}
    assert counts(Mix(quotas={"math": 0}), 4) == {"chat": 1, "code": 3, "math": 0}


def test_shares_of_all_sources_need_not_sum_to_one() -> None:
    assert counts(Mix(quotas={"code": 0.1, "math": 0.1, "chat": 0}), 4) == {
        "chat": 0,
        "code": 2,
        "math": 2,
    }


def test_shares_are_meant_as_they_are_typed() -> None:
    """0.1 + 0.2 + 0.7 is above 1 in floats, and 10 · 0.15 leaves an even half."""
    Mix(quotas={"math": 0.1, "code": 0.2, "chat": 0.7})
    pool = ["a"] * 9 + ["b"] * 9 + ["c"] * 9
    found = Mix(quotas={"b": 0.15, "a": 0.15, "c": 0.7}).rooms(pool, range(27), range(27), 10)
    assert found is not None
    assert found.as_dict() == {"a": 2, "b": 1, "c": 7}


def test_a_source_with_too_few_rows_passes_its_share_on_and_one_line_says_so() -> None:
    found = rooms(Mix(stratify="source"), 5, usable=[0, 6, 7, 8, 9])
    assert found.as_dict() == {"chat": 1, "code": 3, "math": 1}
    (note,) = found.notes
    assert note == (
        "too few rows to fill a source's share: math has 1 of 3 picks; the rest went to code"
    )


def test_a_budget_is_filled_even_from_sources_without_a_share() -> None:
    found = rooms(Mix(quotas={"chat": 1}), 4)
    assert found.as_dict() == {"chat": 1, "code": 1, "math": 2}
    (note,) = found.notes
    assert note.endswith("chat has 1 of 4 picks; the rest went to code, math")


@few
@given(st.permutations(range(10)), st.integers(0, 12))
def test_the_order_of_the_pool_changes_no_room(order: list[int], k: int) -> None:
    for mix in (Mix(stratify="source"), Mix(quotas={"code": 0.5})):
        moved = mix.rooms([SOURCES[i] for i in order], range(10), range(10), k)
        assert moved is not None
        assert moved.as_dict() == counts(mix, k)
        assert sum(moved.counts) == min(k, 10)
        assert [moved.names[group] for group in moved.of] == [SOURCES[i] for i in order]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stratify": "length"}, "stratify=length: must be source, or null"),
        ({"quotas": {"math": -0.1}}, "quotas.math=-0.1"),
        ({"quotas": {"math": "much"}}, "quotas.math=much"),
        ({"quotas": {"math": True}}, "quotas.math=true"),
        ({"quotas": {"math": np.nan}}, "quotas.math=nan"),
        ({"quotas": {"math": np.inf}}, "quotas.math=inf"),
        (
            {"quotas": {"math": 0.6, "code": 0.5}},
            "quotas={math: 0.6, code: 0.5}: shares sum",
        ),
        ({"quotas": {"math": 1}, "stratify": "source"}, "quotas={math: 1.0}: the mix is kept by"),
    ],
    ids=str,
)
def test_a_mix_that_makes_no_sense_is_an_input_error(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        Mix(**options)
    assert str(error.value).startswith(said)


def test_a_source_that_the_pool_does_not_have_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"selector\.quotas\.maths: .*Did you mean 'math'\?"):
        counts(Mix(quotas={"maths": 0.5}), 3)


def test_shares_of_nothing_are_an_input_error() -> None:
    nothing = Mix(quotas={"math": 0, "code": 0, "chat": 0})
    with pytest.raises(InputError, match=r"selector\.quotas: every source has a share of 0"):
        counts(nothing, 3)


def test_it_is_told_when_only_sources_without_a_share_have_rows() -> None:
    found = Mix(quotas={"math": 0}).rooms(SOURCES, range(6), range(6), 3)
    assert found is not None
    assert found.as_dict() == {"math": 3}
    assert found.notes == ["no source with a share has rows to pick from; all picks went to math"]


def test_sources_whose_names_are_numbers_can_be_named() -> None:
    """Hydra reads selector.quotas={2024: 0.5} as a number's share, and takes no quotes there."""
    found = Mix(quotas={2024: 0.5}).rooms(["2023", "2024", "2024"], range(3), range(3), 2)
    assert found is not None
    assert found.as_dict() == {"2023": 1, "2024": 1}


# -- what a run has left -----------------------------------------------------------------------


def test_a_full_group_has_no_candidates_any_more() -> None:
    places = Places(4, Rooms("ab", np.array([1, 5]), np.array([0, 0, 1, 1])), 9)
    assert places.k == 3
    places.take(1)
    assert places.open.tolist() == [False, False, True, True]
    assert places.free.tolist() == [True, False, True, True]
    # what the best set can have: one of group a, though its room is taken
    assert places.ahead(np.array([9.0, 1.0, 2.0])).tolist() == [9, 2, 1]


@few
@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(1, 12))
def test_gains_ahead_are_those_of_the_best_set(seed: int, picked: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    of, room = rng.integers(0, 3, 12), rng.integers(0, 4, 3)
    places, gains = Places(12, Rooms("abc", room, of), k), rng.normal(size=12)
    places.free[rng.permutation(12)[:picked]] = False
    taken: Counter[int] = Counter()
    expected = []
    for x in np.argsort(-gains):
        if places.free[x] and taken[of[x]] < room[of[x]]:
            taken[of[x]] += 1
            expected.append(gains[x])
    assert places.ahead(gains[places.free]).tolist() == expected[: places.k]


@few
@given(st.integers(0, 10**6), st.integers(0, 25))
def test_a_ranking_takes_the_best_of_each_source_in_order_of_score(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    sources = rng.choice(["a", "b", "c"], 20).tolist()
    scores, ids = np.round(rng.normal(size=20), 1), [f"{i:02}" for i in rng.permutation(20)]
    found = Mix(stratify="source").rooms(sources, range(20), range(20), k)
    assert found is not None
    picks = top(scores, ids, np.arange(20), k, found)
    assert Counter(sources[pick] for pick in picks) == Counter(found.as_dict())
    assert picks == sorted(picks, key=lambda row: (-scores[row], ids[row]))
    for source in "abc":
        own = [row for row in range(20) if sources[row] == source]
        best = sorted(own, key=lambda row: (-scores[row], ids[row]))
        count = found.as_dict().get(source, 0)
        assert [pick for pick in picks if sources[pick] == source] == best[:count]
