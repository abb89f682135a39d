"""What loops say of themselves: all of it, and nothing that decides a result or a key."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from recorder import Recorder

from spice.gradients.agreement import agreement
from spice.pipeline.steps import finetune, scores
from spice.progress import Going, counted, heard_by, progress
from spice.selectors.dpp import greedy_map
from spice.selectors.fishersft import lazy_greedy
from spice.storage import closure
from spice.submodular.objective import Objective

Run = Callable[..., dict[str, Any]]
#: what says how far it is, and draws it
WORDS = ("spice.reporting.telling", "spice.reporting.pace", "spice.reporting.live")


@pytest.fixture
def heard() -> Any:
    recorder = Recorder()
    with heard_by(recorder):
        yield recorder
    assert recorder.open == []


def whole(going: Going) -> bool:
    """Whether all was told that there was, at its whole cost."""
    assert going.work is not None
    return going.at[0] == going.total and going.at[1] == pytest.approx(going.work)


def test_an_edit_to_what_is_said_makes_nothing_anew() -> None:
    entries = (
        "spice.signals.gradients", "spice.signals.reliability", "spice.signals.influence",
        "spice.selectors.spice", "spice.selectors.lead", "spice.schedules.windows",
        "spice.data.kept_rows", "spice.data.tokenising", *finetune.CODE, *scores.CODE,
    )  # fmt: skip
    for entry in entries:
        found = closure._closure((entry,))[0]
        assert not set(WORDS) & found.keys(), entry
    assert "spice.progress" in closure._closure(("spice.signals.gradients",))[0]


def test_nobody_hears_without_a_listener(heard: Recorder) -> None:
    with heard_by(Recorder()) as _:
        list(counted([1, 2], "x", "rows"))
    assert heard.all == []
    with pytest.raises(ZeroDivisionError), progress("x", 1, "rows"):
        raise ZeroDivisionError
    assert [going.name for going in heard.all] == ["x"]


def test_a_loop_that_is_left_is_over(heard: Recorder) -> None:
    for item in counted([1, 2, 3], "x", "rows", lambda item: 2.0 * item):
        if item == 2:
            break
    assert heard.open == []
    [going] = heard.all
    assert (going.at, going.work) == ((1, 2.0), 12.0)


@pytest.mark.parametrize("maximizer", ["dual", "primal", "blocked", "lazy"])
def test_every_greedy_counts_its_picks_and_picks_the_same(maximizer: str, heard: Recorder) -> None:
    G = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32)
    squares = np.square(G.astype(np.float64)).sum(axis=1)
    objective = Objective(G, squares, 1.0, 1e-8, "exact", maximizer)
    told = objective.maximise(30, 0.1)
    [going] = heard.named("greedy")
    assert whole(going)
    assert going.total == 30
    with heard_by(None):
        alone = dataclasses.replace(objective).maximise(30, 0.1)
    assert (told.picks, told.gains, told.scores) == (alone.picks, alone.gains, alone.scores)


def test_the_other_greedys_and_the_votes_are_counted_too(heard: Recorder) -> None:
    rng = np.random.default_rng(1)
    G = rng.normal(size=(90, 6))
    K = G @ G.T
    assert len(greedy_map(K.diagonal(), lambda x: K[x], 5)[0]) == 5
    assert len(lazy_greedy(np.abs(rng.normal(size=(20, 1))), 4)[0]) == 4
    assert [going.total for going in heard.named("greedy")] == [5, 4]
    agreement(G, np.arange(90) // 30, share=0.1, copies=0.99, references=20, seed=0)
    [votes] = heard.named("weights")
    assert (votes.total, votes.work) == (3, 3 * 30 * 20)
    assert all(map(whole, heard.all))


def test_a_run_says_all_that_it_does(start: Run, heard: Recorder) -> None:
    start("selector=spice_consensus")
    steps = ["pool", "tokens", "signals", "selection", "finetune", "scores", "results"]
    names = [going.name for going in heard.all if not going.unit and going.name in steps]
    assert list(dict.fromkeys(names)) == steps
    counts = [going for going in heard.all if going.total is not None]
    assert all(map(whole, counts))
    rows = [going for going in counts if (going.name, going.unit) == ("", "rows")]
    assert [going.total for going in rows] == [40, 8]  # gradients, and one epoch of what they chose
    assert all(going.work > going.total for going in rows)  # they are weighed by their tokens
    assert {"tokens", "greedy", "weights", "cache"} <= {going.name for going in counts}


@pytest.mark.parametrize(
    ("overrides", "unit"),
    [
        (["schedule=pools", "schedule.pool_size=10", "schedule.refresh_every=2"], "windows"),
        (["selector=lead"], "picks"),
    ],
)
def test_schedules_count_windows_and_picks(
    overrides: list[str], unit: str, start: Run, heard: Recorder
) -> None:
    start("finetune=none", *overrides)
    [going] = [going for going in heard.all if going.unit == unit and not going.name]
    assert whole(going)
    assert going.total == {"windows": 4, "picks": 8}[unit]
