"""Two rounds over parts: against plain loops, for every order of the parts, within their memory."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
from clouds import pools
from hypothesis import given, settings
from hypothesis import strategies as st

import spice
from spice.storage.shards import ShardStore
from spice.submodular import later, state
from spice.submodular.kept_runs import KeptRuns
from spice.submodular.kernel import squared_norms
from spice.submodular.later import gains_after
from spice.submodular.objective import Objective, held
from spice.submodular.partitions import Partition, fewest, peak, rows_of
from spice.submodular.rooms import Rooms

pytestmark = pytest.mark.filterwarnings("ignore:.*zero gradient")  # grids have some
few = settings(max_examples=60)
seeds = st.integers(0, 10**6)
penalties = st.sampled_from([0.0, 0.1, 1.0])
alphas = st.sampled_from([0.1, 1.0, 30.0])


def cloud(seed: int, n: int = 30, d: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.exp(rng.normal(size=(n, 1)))


def objective(G: Any, count: int = 1, seed: int = 0, **more: Any) -> Objective:
    drawn = Partition.drawn(range(len(G)), count, seed) if count > 1 else None
    given = {"alpha": 1.0, "form": "exact", "maximizer": "auto", "partition": drawn, **more}
    return Objective(G, squared_norms(G), eta=1e-8, **given)


# -- the procedure -----------------------------------------------------------------------------


def by_plain_loops(
    G: np.ndarray, k: int, of: np.ndarray, alpha: float, penalty: float, **stopping: Any
) -> tuple[list[int], float, float]:
    """The picks, F of the second round's, and F of the best part's; nothing is fast here."""

    def chosen(rows: list[int]) -> list[plain.Step]:
        steps = plain.spice(G[rows], k, alpha=alpha, penalty=penalty, **stopping)
        return [replace(step, pick=rows[step.pick]) for step in steps]

    parts = [chosen(np.flatnonzero(of == number).tolist()) for number in np.unique(of)]
    second = chosen(sorted(step.pick for part in parts for step in part))
    ratio = stopping.get("stop_ratio")
    if ratio is not None and second:
        for number, part in enumerate(parts):
            low = [t for t, step in enumerate(part) if step.gain <= ratio * second[0].gain]
            end = (low[0] + stopping["stop_inclusive"]) if low else len(part)
            parts[number] = part[:end]
    runs = [[step.pick for step in run] for run in (second, *parts)]
    values = [plain.information(G, run, alpha) for run in runs]
    return runs[int(np.argmax(values))], values[0], max(values[1:])


@few
@given(seeds, st.integers(2, 5), penalties, alphas, st.integers(1, 9))
def test_plain_loops_find_the_same(
    seed: int, count: int, penalty: float, alpha: float, k: int
) -> None:
    G = cloud(seed)
    problem = objective(G, count, seed, alpha=alpha)
    assert problem.partition is not None
    picks, union, part = by_plain_loops(G, k, problem.partition.of, alpha, penalty)
    trace = problem.maximise(k, penalty)
    assert trace.rounds is not None
    assert trace.rounds.of_union == pytest.approx(union, rel=1e-9)
    assert trace.rounds.of_best_part == pytest.approx(part, rel=1e-9)
    if abs(union - part) > 1e-9:  # else they are the same set in another order
        assert trace.picks == picks
    assert sum(trace.gains) == pytest.approx(max(union, part), rel=1e-9)


@few
@given(seeds, st.integers(2, 4), st.sampled_from([0.3, 0.6, 0.9]), st.booleans(), penalties)
def test_plain_loops_stop_where_two_rounds_do(
    seed: int, count: int, ratio: float, inclusive: bool, penalty: float
) -> None:
    G, stopping = cloud(seed), {"stop_ratio": ratio, "stop_inclusive": inclusive}
    problem = objective(G, count, seed)
    assert problem.partition is not None
    found = by_plain_loops(G, 30, problem.partition.of, 1.0, penalty, **stopping)
    trace = problem.maximise(30, penalty, **stopping)  # type: ignore[arg-type]
    assert trace.rounds is not None
    assert sum(trace.gains) == pytest.approx(max(found[1:]), rel=1e-9)
    assert len(trace.picks) == len(found[0])
    first = np.log1p(squared_norms(G)).max()
    assert all(gain > ratio * first for gain in trace.gains[: len(trace.gains) - inclusive])


def test_the_worked_example_in_two_parts() -> None:
    """{0, 3} and {1, 2} of METHODS 1.6: all four come to the second round, which finds 0, 2, 3."""
    G = np.array([(3, 0), (2, 0), (-1, 1), (0, 1)], dtype=float)
    parts = Partition(np.array([0, 1, 1, 0]), 2)
    trace = replace(objective(G), partition=parts).maximise(3, 0.0)
    assert trace.picks == [0, 2, 3]
    assert sum(trace.gains) == pytest.approx(3.465736, abs=5e-7)
    assert trace.rounds is not None
    # (3, 0), (0, 1): ln 10 + ln 2
    assert trace.rounds.of_best_part == pytest.approx(np.log(20))


def test_a_part_may_be_better_than_the_union() -> None:
    """With λ the union's greedy may shun what a part's had to take."""
    found = set()
    for seed in range(200):
        trace = objective(np.round(cloud(seed, 12, 2)), 2, seed).maximise(3, 5.0)
        assert trace.rounds is not None
        found.add(trace.rounds.taken)
        best = max(trace.rounds.of_union, trace.rounds.of_best_part)
        assert sum(trace.gains) == pytest.approx(best, rel=1e-9)
    assert found == {"the union", "a part"}


@few
@given(pools(), penalties, st.integers(0, 40), st.sampled_from([None, 0.5]))
def test_one_part_is_the_exact_greedy_to_the_bit(
    G: np.ndarray, penalty: float, k: int, ratio: float | None
) -> None:
    options = {"penalty": penalty, "stop_ratio": ratio}
    one = spice.select(G, min(k, len(G)), partitions=1, **options)  # type: ignore[arg-type]
    auto = spice.select(G, min(k, len(G)), **options)  # type: ignore[arg-type]
    assert one.indices == auto.indices
    assert one.gains == auto.gains
    assert one.certificate == auto.certificate
    assert one.partitions == auto.partitions == {"count": 1}


@few
@given(pools(), st.sampled_from([2, 3, 50]), penalties, st.integers(0, 12))
def test_any_number_of_parts_gives_k_rows(
    G: np.ndarray, count: int, penalty: float, k: int
) -> None:
    usable = int((squared_norms(G) > 0).sum())
    found = spice.select(G, min(k, usable), partitions=count, penalty=penalty)
    assert found.k == min(k, usable) == len(set(found.indices))


# -- who does the parts, and in which order ----------------------------------------------------


def backwards(task: Any, parts: Iterable[np.ndarray]) -> Iterator[Any]:
    """The last part first; results in the order of the parts, as ``map`` has them."""
    return reversed([task(part) for part in reversed(list(parts))])


@few
@given(pools(), st.integers(2, 6), penalties, st.integers(1, 10))
def test_neither_the_order_of_the_parts_nor_that_of_the_rows_decides(
    G: np.ndarray, count: int, penalty: float, k: int
) -> None:
    problem = objective(G, count)
    assert problem.partition is not None
    other = replace(problem, partition=replace(problem.partition, each=backwards))
    assert other.maximise(k, penalty) == problem.maximise(k, penalty)


def test_other_processes_find_the_same() -> None:
    problem = objective(cloud(3, 200, 8), 3)
    assert problem.partition is not None
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as workers:
        shared = replace(problem.partition, each=workers.map)
        assert replace(problem, partition=shared).maximise(20, 0.1) == problem.maximise(20, 0.1)


def test_rows_are_spread_by_their_ids_alone() -> None:
    ids = [f"row {i}" for i in range(6000)]
    of = Partition.drawn(ids, 3).of
    assert Partition.drawn(ids[::-1], 3).of.tolist() == of[::-1].tolist()
    assert Partition.drawn(ids[100:200], 3).of.tolist() == of[100:200].tolist()
    assert np.bincount(of) == pytest.approx(2000, abs=5 * np.sqrt(2000 * 2 / 3))
    assert (Partition.drawn(ids, 3, seed=1).of == of).mean() == pytest.approx(1 / 3, abs=0.03)


# -- memory ------------------------------------------------------------------------------------


class Counted:
    """Rows that remember how many of them were asked for at a time."""

    def __init__(self, whole: np.ndarray) -> None:
        self.whole, self.shape, self.dtype = whole, whole.shape, whole.dtype
        self.most = 0

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, which: Any) -> np.ndarray:
        found = self.whole[which]
        self.most = max(self.most, len(found))
        return found


@pytest.mark.parametrize("blocked", [False, True])
def test_no_more_than_a_part_or_the_union_is_held(
    blocked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocked:
        monkeypatch.setattr(state, "FEW_ROWS", 50)
    monkeypatch.setattr(later, "BLOCK", 100)
    G = Counted(cloud(1, 2000, 20).astype(np.float32))
    squares = squared_norms(G.whole)
    parts = Partition.drawn(range(2000), 5)
    maximizer = "blocked" if blocked else "dual"
    problem = Objective(G, squares, 1.0, 1e-8, "exact", maximizer, partition=parts)
    columns = []
    made = state.State.__init__

    def noted(self: state.State, *given: Any) -> None:
        made(self, *given)
        columns.append(tuple(self.columns.shape))

    monkeypatch.setattr(state.State, "__init__", noted)
    trace = problem.maximise(20, 0.1)
    assert trace.rounds is not None
    assert problem.certificate(trace, 0.1) is not None
    largest = max(trace.rounds.largest_part, trace.rounds.union)
    assert largest < 500
    assert 20 <= G.most <= (512 if blocked else largest)
    assert len(columns) == (6 if blocked else 0)
    assert all(rows <= largest and picks == 20 for rows, picks in columns)


@pytest.mark.parametrize(
    ("n", "k", "room", "count"),
    [
        (97_500, 9_750, 5e9, 1),
        (97_500, 9_750, 3e9, 2),
        (97_500, 9_750, 1e9, 3),  # the least there is
        (10**6, 1_000, 1e9, 5),
        (100, 0, 1e6, 1),
    ],
)
def test_as_few_parts_as_fit(n: int, k: int, room: float, count: int) -> None:
    def of(rows: int, picks: int) -> int:
        return held(rows, picks, "exact", "auto")

    assert fewest(n, k, of, int(room)) == count
    needs = [peak(n, k, other, of) for other in range(1, 40)]
    assert count == 1 or all(need > room for need in needs[: count - 1])
    assert needs[count - 1] <= room or needs[count - 1] == min(needs)


def test_a_round_has_a_part_or_what_the_parts_gave() -> None:
    assert rows_of(97_500, 9_750, 3) == (32_500, 29_250)
    assert rows_of(100, 30, 7) == (15, 100)


# -- what is guaranteed ------------------------------------------------------------------------


@few
@given(seeds, alphas, penalties, st.integers(1, 5), st.integers(2, 4))
def test_no_subset_is_better_than_the_bound(
    seed: int, alpha: float, penalty: float, k: int, count: int
) -> None:
    G = cloud(seed, 9, 3)
    problem = objective(G, count, seed, alpha=alpha)
    trace = problem.maximise(k, penalty)
    told = problem.certificate(trace, penalty)
    assert told is not None
    best = max(plain.information(G, list(s), alpha) for s in itertools.combinations(range(9), k))
    assert set(told["bounds"]) == {"later_gains"}
    assert told["optimum_at_most"] >= best * (1 - 1e-9)
    share = 1 - (1 - 1 / k) ** k
    assert told["in_expectation"] == {"fraction": share / 2, "less": share * k * penalty}


@settings(max_examples=10)
@given(seeds, st.sampled_from([0.0, 0.3]))
def test_the_mean_over_draws_is_what_is_promised(seed: int, penalty: float) -> None:
    G, k = cloud(seed, 9, 3), 3
    best = max(plain.information(G, list(s), 1.0) for s in itertools.combinations(range(9), k))
    draws = [objective(G, 3, draw).maximise(k, penalty) for draw in range(40)]
    share = 1 - (1 - 1 / k) ** k
    mean = np.mean([sum(trace.gains) for trace in draws])
    assert mean >= share / 2 * best - share * k * penalty


@few
@given(seeds, st.integers(1, 12), st.sampled_from([(40, 5), (40, 30)]), st.booleans())
def test_later_gains_are_those_of_all_rows(
    seed: int, k: int, shape: tuple[int, int], single: bool
) -> None:
    G = cloud(seed, *shape)
    picks = np.random.default_rng(seed).permutation(40)[:k].tolist()
    looks = sorted({0, k // 2, k})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(later, "BLOCK", 7)
        patch.setattr(state, "FEW_ROWS", 10 if single else 100)
        given_ = (G * 0.2).astype(np.float32) if single else G
        found = gains_after(given_, squared_norms(given_), 1.0, picks, looks)
    for t, bounds in zip(looks, found, strict=True):
        true = plain.gains(given_.astype(float), picks[:t], 1.0)
        true[picks[:t]] = 0.0
        assert np.all(bounds >= true - 1e-9)
    true[picks], bounds[picks] = 0.0, 0.0
    largest = np.sort(true)[-k:]
    assert np.sort(bounds)[-k:] == pytest.approx(largest, abs=1e-4 if single else 1e-8)


def test_rooms_hold_in_both_rounds_and_in_the_bound() -> None:
    G = cloud(4, 10, 3)
    rooms = Rooms("ab", np.array([2, 1]), np.array([0, 1] * 5))
    problem = objective(G, 2, rooms=rooms)
    trace = problem.maximise(3, 0.0)
    assert sorted(pick % 2 for pick in trace.picks) == [0, 0, 1]
    told = problem.certificate(trace, 0.0)
    assert told is not None
    sets = [s for s in itertools.combinations(range(10), 3) if sum(x % 2 for x in s) == 1]
    assert told["optimum_at_most"] >= max(plain.information(G, list(s), 1.0) for s in sets) - 1e-9
    assert told["in_expectation"] == {"fraction": 0.25, "less": 0.0}


def test_where_runs_are_stopped_nothing_is_promised_beforehand() -> None:
    found = spice.select(cloud(2), 20, partitions=2, stop_ratio=0.5)
    assert found.certificate is not None
    assert found.certificate["in_expectation"] is None
    assert found.certificate["guaranteed_fraction"] <= 1
    assert spice.select(cloud(2), 5, partitions=2, fisher="diag").certificate is None


@pytest.mark.parametrize("form", ["diag", "diag_logdet", "g4", "scalar", "norm"])
def test_other_forms_go_in_two_rounds_too(form: str) -> None:
    G = cloud(7, 60, 8)
    found = spice.select(G, 10, partitions=3, fisher=form)
    assert found.partitions is not None
    of_picks = plain.information(G, found.indices, 1.0)
    best = max(found.partitions["of_union"], found.partitions["of_best_part"])
    assert of_picks == pytest.approx(best, rel=1e-9)
    if form in {"scalar", "norm"}:
        assert set(found.indices) == set(np.argsort(-squared_norms(G))[:10].tolist()) or (
            found.partitions["taken"] == "a part"
        )


# -- kept --------------------------------------------------------------------------------------


def test_kept_runs_keep_each_budget_by_itself(tmp_path: Path) -> None:
    problem, kept = objective(cloud(5), 3), KeptRuns(tmp_path, {"of": "a test"}, longest=12)
    found = kept.maximise(problem, 6, 0.1)
    assert found == problem.maximise(6, 0.1)
    assert kept.maximise(problem, 6, 0.1) == found
    assert kept.of_parts(3, 6, stop_ratio=None, stop_inclusive=False).path(0.1).is_file()
    assert len(list(tmp_path.glob("*.npz"))) == 1
    assert kept.maximise(problem, 4, 0.1) == problem.maximise(4, 0.1)
    exact = kept.maximise(objective(cloud(5)), 6, 0.1)
    assert exact == objective(cloud(5)).maximise(12, 0.1).prefix(6)


# -- rows on disk ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["exact", "norm", "g4"])
@pytest.mark.parametrize("count", [1, 3])
def test_rows_of_a_store_are_chosen_from_by_columns_too(
    form: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are where K is too large to be held."""
    monkeypatch.setattr("spice.submodular.objective.GRAM_ROWS", 5)
    G = cloud(6, 40, 5).astype(np.float32)
    shards = [np.arange(25), np.arange(25, 40)]
    store = ShardStore(tmp_path, {}, [str(i) for i in range(40)], shards, 5, "float32")
    store.open()
    for number, rows in enumerate(shards):
        store.write(number, G[rows])
    given_ = {"form": form, "maximizer": "dual" if form == "exact" else "auto"}
    found = objective(store.rows(), count, **given_).maximise(6, 0.1)
    assert found.picks == objective(G, count, **given_).maximise(6, 0.1).picks
