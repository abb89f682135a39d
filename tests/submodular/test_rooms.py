"""Every greedy with rooms for its sources: against a plain loop, and against the best sets."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
from clouds import pools, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.errors import InputError
from spice.records import Selection, Signals
from spice.selectors.dpp import Dpp, greedy_map
from spice.selectors.fishersft import FisherSft, lazy_greedy, square
from spice.selectors.spice import Spice
from spice.submodular import state
from spice.submodular.blocked import blocked_greedy
from spice.submodular.fisher import MODES
from spice.submodular.greedy import GreedyTrace
from spice.submodular.kept_runs import KeptRuns
from spice.submodular.kernel import squared_norms
from spice.submodular.objective import MAXIMIZERS, Objective
from spice.submodular.rooms import Rooms

WAYS = [way for way in MAXIMIZERS if way != "auto"]
few = settings(max_examples=60)
penalties = st.sampled_from([0.0, 0.1, 1.0, 5.0])


def objective(G: np.ndarray, way: str, rooms: Rooms | None, form: str = "exact") -> Objective:
    return Objective(G, squared_norms(G), 1.0, 1e-8, form, way, True, rooms)


def drawn(seed: int, n: int, most: int = 6) -> Rooms:
    """Rooms of up to three groups; some are closed, some larger than their group."""
    rng = np.random.default_rng(seed)
    return Rooms("abc", rng.integers(0, most, 3), rng.integers(0, 3, n))


def cloud(seed: int, n: int = 8, d: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.exp(rng.normal(size=(n, 1)))


def loop(G: np.ndarray, k: int, penalty: float, rooms: Rooms) -> list[int]:
    """Every score anew; a candidate whose source is full is none."""
    picks: list[int] = []
    while len(picks) < k:
        score = plain.gains(G, picks, 1.0) - penalty * plain.conflicts(G, picks)
        taken = np.bincount(rooms.of[picks], minlength=3)
        score[taken[rooms.of] >= rooms.counts[rooms.of]] = -np.inf
        score[picks] = -np.inf
        if not np.isfinite(score).any():
            break
        picks.append(int(np.argmax(score)))
    return picks


@few
@given(seeds, penalties, st.integers(1, 30))
def test_the_greedy_is_the_plain_loop(seed: int, penalty: float, k: int) -> None:
    G, rooms = cloud(seed, 30, 5), drawn(seed, 30, 12)
    trace = objective(G, "dual", rooms).maximise(k, penalty)
    assert trace.picks == loop(G, k, penalty, rooms)
    assert trace.complete == (len(trace.picks) == rooms.total)


@pytest.mark.parametrize("way", WAYS)
@few
@given(pools(), seeds, penalties, st.integers(1, 40))
def test_every_maximiser_makes_the_same_picks(
    way: str, G: np.ndarray, seed: int, penalty: float, k: int
) -> None:
    rooms = drawn(seed, len(G), 9)
    expected = objective(G, "dual", rooms).maximise(k, penalty)
    found = objective(G, way, rooms).maximise(k, penalty)
    assert found.picks == expected.picks
    assert found.complete == expected.complete
    assert found.gains == pytest.approx(expected.gains, rel=1e-9, abs=1e-12)


@few
@given(pools(), seeds, penalties, st.integers(1, 12), st.integers(1, 12))
def test_neither_the_shortlist_nor_the_block_decides(
    G: np.ndarray, seed: int, penalty: float, size: int, block: int
) -> None:
    """A source that is full within a block leaves candidates of others in front."""
    rooms = drawn(seed, len(G))
    given: dict[str, Any] = {"alpha": 1.0, "penalty": penalty, "rooms": rooms}
    found = blocked_greedy(G, len(G), size=size, block=block, **given)
    assert found.picks == objective(G, "dual", rooms).maximise(len(G), penalty).picks


@pytest.mark.parametrize("way", WAYS)
@few
@given(pools(), seeds, penalties, st.sampled_from([0.3, 0.9]), st.booleans())
def test_every_maximiser_stops_at_the_same_pick(
    way: str, G: np.ndarray, seed: int, penalty: float, ratio: float, inclusive: bool
) -> None:
    rooms = drawn(seed, len(G), 9)
    stopping: dict[str, Any] = {"stop_ratio": ratio, "stop_inclusive": inclusive}
    expected = objective(G, "dual", rooms).maximise(len(G), penalty, **stopping)
    assert objective(G, way, rooms).maximise(len(G), penalty, **stopping).picks == expected.picks


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_single_precision_departs_only_at_a_near_tie(
    penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "FEW_ROWS", 100)
    rng = np.random.default_rng(0)
    G = 0.5 * rng.normal(size=(900, 48)) * np.exp(0.2 * rng.normal(size=(900, 1)))
    rooms = Rooms("abc", np.array([100, 5, 45]), rng.choice(3, 900, p=[0.2, 0.6, 0.2]))
    exact = objective(G, "dual", rooms).maximise(150, penalty)
    found = objective(G.astype(np.float32), "blocked", rooms).maximise(150, penalty)
    assert found.drift is not None  # it was float32
    pairs = zip(found.picks, exact.picks, found.scores, exact.scores, strict=True)
    apart = [(ours, best) for pick, other, ours, best in pairs if pick != other]
    if apart:  # what float64 prefers there is better by less than float32 can tell
        assert apart[0][0] == pytest.approx(apart[0][1], abs=1e-4)
    assert np.bincount(rooms.of[found.picks]).tolist() == [100, 5, 45]
    assert sum(found.gains) == pytest.approx(sum(exact.gains), rel=1e-6)


@pytest.mark.parametrize("form", MODES)
def test_every_form_of_the_information_respects_them(form: str) -> None:
    rooms = drawn(1, 30, 5)
    picks = objective(cloud(1, 30), "auto", rooms, form).maximise(30, 0.1).picks
    assert len(picks) == rooms.total
    assert np.all(np.bincount(rooms.of[picks], minlength=3) <= rooms.counts)


@pytest.mark.parametrize("way", WAYS)
@few
@given(pools(), penalties, st.integers(1, 40))
def test_rooms_for_all_change_nothing(way: str, G: np.ndarray, penalty: float, k: int) -> None:
    rooms = Rooms("ab", np.array([99, 99]), np.arange(len(G)) % 2)
    one, other = (objective(G, way, given).maximise(k, penalty) for given in (rooms, None))
    assert (one.picks, one.scores, one.complete) == (other.picks, other.scores, other.complete)


# -- how far from the best set -----------------------------------------------------------------


def respecting(rooms: Rooms, n: int, k: int) -> list[list[int]]:
    sets = (list(s) for s in itertools.combinations(range(n), k))
    return [s for s in sets if np.all(np.bincount(rooms.of[s], minlength=3) <= rooms.counts)]


@pytest.mark.parametrize("way", ["dual", "blocked", "lazy"])
@pytest.mark.parametrize("ratio", [None, 0.5])
@few
@given(seeds, penalties, st.integers(1, 5))
def test_no_set_that_respects_them_is_better_than_a_bound(
    way: str, ratio: float | None, seed: int, penalty: float, k: int
) -> None:
    G, rooms = cloud(seed), drawn(seed, 8, 4)
    problem = objective(G, way, rooms)
    trace = problem.maximise(k, penalty, stop_ratio=ratio)
    found = problem.certificate(trace, penalty)
    if not trace.picks:
        assert found is None
        return
    assert found is not None
    assert set(found["bounds"]) == {"later_gains", "matroid"}
    sets = respecting(rooms, 8, len(trace.picks))
    best = max(plain.information(G, picks, 1.0) for picks in sets)
    for bound in found["bounds"].values():
        assert bound >= best * (1 - 1e-9)
    reached = plain.information(G, trace.picks, 1.0)
    assert found["guaranteed_fraction"] <= reached / best * (1 + 1e-9)


def test_sources_that_share_nothing_are_chosen_best_and_it_is_known() -> None:
    rooms = Rooms("ab", np.array([1, 1]), np.array([0, 0, 1, 1]))
    problem = objective(np.diag([3.0, 2.0, 1.0, 0.5]), "dual", rooms)
    trace = problem.maximise(2, 0.0)
    assert trace.picks == [0, 2]
    found = problem.certificate(trace, 0.0)
    assert found is not None
    assert found["guaranteed_fraction"] == pytest.approx(1.0)


def test_twice_the_picks_information_is_about_what_the_best_set_can_have() -> None:
    """The first pick is hardly better, takes its source's room, and leaves the other no gain."""
    rooms = Rooms("ab", np.array([1, 1]), np.array([0, 0, 1]))
    G = 1e6 * np.array([[1.001, 0.0], [0.0, 1.0], [1.0, 0.0]])
    problem = objective(G, "dual", rooms)
    trace = problem.maximise(2, 0.0)
    assert trace.picks == [0, 2]
    found, best = problem.certificate(trace, 0.0), plain.information(G, [1, 2], 1.0)
    assert found is not None
    assert 1.9 * sum(trace.gains) < best <= found["bounds"]["matroid"]


def test_a_penalty_may_cost_more_than_half_and_the_bound_allows_for_it() -> None:
    """Good rows that conflict by a hair give way to rows of next to no information."""
    rooms = Rooms("ab", np.array([1, 3]), np.array([0, 1, 1, 1, 1, 1, 1]))
    G = np.zeros((7, 4))
    G[0, 0] = 3.0
    G[1:4, 1:] = 2.9 * np.eye(3)
    G[1:4, 0] = -0.3
    G[4:, 0] = 1e-3
    problem = objective(G, "dual", rooms)
    trace = problem.maximise(4, 50.0)
    assert sorted(trace.picks) == [0, 4, 5, 6]
    found, best = problem.certificate(trace, 50.0), plain.information(G, [0, 1, 2, 3], 1.0)
    assert found is not None
    assert 2 * sum(trace.gains) < best <= found["bounds"]["matroid"]
    assert found["bounds"]["matroid"] == pytest.approx(2 * sum(trace.gains) + 4 * 50.0)


# -- kept runs ---------------------------------------------------------------------------------


class Counting(Objective):
    """Notes every run."""

    def maximise(self, k: int, *args: float, **options: object) -> GreedyTrace:
        """Note it, and run."""
        lengths.append(k)
        return super().maximise(k, *args, **options)  # type: ignore[arg-type]


lengths: list[int] = []


def test_a_kept_run_with_rooms_serves_no_other_rooms(tmp_path: Path) -> None:
    lengths.clear()
    G, of = cloud(0, 40, 6), np.arange(40) % 2
    orders = KeptRuns(tmp_path, {"signals": "of a test"}, longest=30)

    def kept(rooms: Rooms | None, k: int) -> GreedyTrace:
        made = Counting(G, squared_norms(G), 1.0, 1e-8, "exact", "dual", True, rooms)
        found = orders.maximise(made, k, 0.1)
        assert found.picks == Objective.maximise(made, k, 0.1).picks
        return found

    kept(None, 10)
    four, eight = (Rooms("ab", np.array([1, room]), of) for room in (3, 7))
    for _ in range(2):
        kept(four, 4)
        kept(eight, 8)
    kept(eight, 5)  # as after an early stop: picks of the same rooms
    assert lengths == [30, 4, 8]


# -- other greedies ----------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 14))
def test_fishersft_is_a_plain_loop(seed: int, k: int) -> None:
    rng, rooms = np.random.default_rng(seed), drawn(seed, 14)
    rows = np.array([X.T @ X for X in rng.normal(size=(14, 3, 4))])[:, *np.triu_indices(4)]
    V, expected = np.eye(4), []
    for _ in range(min(k, rooms.total)):
        gains = np.linalg.slogdet(V + square(rows))[1]
        taken = np.bincount(rooms.of[expected], minlength=3)
        gains[taken[rooms.of] >= rooms.counts[rooms.of]] = -np.inf
        gains[expected] = -np.inf
        expected.append(int(np.argmax(gains)))
        V = V + square(rows[expected[-1]])
    assert lazy_greedy(rows, k, rooms)[0] == expected


@few
@given(seeds, st.integers(1, 12))
def test_dpp_is_a_plain_loop(seed: int, k: int) -> None:
    root, rooms = np.random.default_rng(seed).normal(size=(12, 15)), drawn(seed, 12)
    L, expected = root @ root.T, list[int]()
    for _ in range(min(k, rooms.total)):
        taken = np.bincount(rooms.of[expected], minlength=3)
        rest = [x for x in range(12) if x not in expected]
        rest = [x for x in rest if taken[rooms.of[x]] < rooms.counts[rooms.of[x]]]
        sets = [[*expected, x] for x in rest]
        expected.append(rest[int(np.argmax([np.linalg.det(L[np.ix_(s, s)]) for s in sets]))])
    assert greedy_map(np.diagonal(L), lambda x: L[x], k, rooms)[0] == expected


# -- the selectors around them -----------------------------------------------------------------


def choose(name: str, **mix: Any) -> tuple[list[str], Selection]:
    """Nine picks of thirty rows, of which the twelve of source b have the largest signals."""
    rng = np.random.default_rng(5)
    sources = ["a", "b", "b", "a", "a"] * 6
    G = rng.normal(size=(30, 10)) * np.where(np.array(sources) == "b", 9.0, 1.0)[:, None]
    ids = [f"{i:02}" for i in range(30)]
    signals = Signals(ids, sources, np.ones(30), gradients=G, embeddings=G,
                      token_information=np.square(G))  # fmt: skip
    made: dict[str, Any] = {
        "spice": lambda: Spice(
            0.1, 1.0, "raw", 0.9, None, False, False, "exact", "auto", None, "auto", **mix
        ),
        "dpp": lambda: Dpp("embeddings", **mix),
        "fishersft": lambda: FisherSft(None, **mix),
    }
    selection = made[name]().select(signals, 9, rng, range(30))
    return [sources[i] for i in selection.indices], selection


@pytest.mark.parametrize("name", ["spice", "dpp", "fishersft"])
def test_greedy_selectors_keep_or_set_the_mix(name: str) -> None:
    assert sorted(choose(name, stratify="source")[0]) == ["a"] * 5 + ["b"] * 4
    picked, selection = choose(name, quotas={"a": 0.2})
    assert picked.count("a") == 2
    assert selection.notes == []
    picked, selection = choose(name, quotas={"b": 0})
    assert picked == ["a"] * 9
    with pytest.raises(InputError, match=r"selector\.quotas\.c: no such source"):
        choose(name, quotas={"c": 0.5})


def test_without_penalty_the_mix_is_the_same() -> None:
    sources = ["a", "b", "b", "a", "a"] * 6
    _, selection = choose("spice", stratify="source")
    assert selection.without_penalty is not None
    assert sorted(sources[i] for i in selection.without_penalty) == ["a"] * 5 + ["b"] * 4
    assert selection.certificate is not None
    assert "matroid" in selection.certificate["bounds"]
