"""A run and its helpers: real processes that obey, fail and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import orders
import psutil
import pytest

from spice.distributed import team
from spice.distributed.per_rank import PerRank
from spice.errors import InputError


@pytest.fixture(scope="module")
def module_team() -> Iterator[None]:
    yield
    team.ask_for(1, False)
    team.disband()


@pytest.fixture
def two(module_team: None) -> None:
    """They stay for the next test; one that ends them pays for new ones."""
    team.ask_for(2, False)


def helpers() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [p for p in found if "spice.distributed.serving" in " ".join(p.cmdline())]


def test_alone_it_is_a_call() -> None:
    assert team.everywhere(orders.who, "x", here="mine") == [(0, 1, "x", "mine", [0])]
    assert team.share([1, 2, 3]) == [1, 2, 3]
    assert not helpers()


def test_all_do_what_is_asked(two: None) -> None:
    found = team.everywhere(orders.who, {"a": 1}, here="mine")
    assert found == [(0, 2, {"a": 1}, "mine", [0, 10]), (1, 2, {"a": 1}, None, [0, 10])]
    assert team.everywhere(orders.dealt, list(range(5))) == [[0, 2, 4], [1, 3]]
    assert team.everywhere(orders.dealt, [7]) == [[7], []]
    assert len(helpers()) == 1


def test_what_is_large_is_made_by_each(two: None) -> None:
    value = PerRank(dict)
    assert team.everywhere(orders.made, value) == [1, 1]
    assert team.everywhere(orders.made, value) == [2, 2]  # another order, the same value
    assert team.everywhere(orders.made, PerRank(dict)) == [1, 1]
    assert team.everywhere(orders.kept, value) == [0, 1]  # the run has let go of the other one


def test_a_divided_model_is_not_loaded_by_the_run_alone(two: None) -> None:
    team.ask_for(2, False, divided=True)
    with pytest.raises(RuntimeError, match="within an order"):
        team.is_divided()


@pytest.mark.parametrize("waiting", [False, True])
def test_a_helpers_mistake_is_the_runs(two: None, waiting: bool) -> None:
    with pytest.raises(InputError, match="row x: nothing to learn from"):
        team.everywhere(orders.refused, 1, waiting)
    assert not helpers()
    assert team.everywhere(orders.dealt, [1, 2]) == [[1], [2]]  # others have come


def test_the_runs_own_mistake_ends_the_helpers(two: None) -> None:
    with pytest.raises(InputError, match="row x"):
        team.everywhere(orders.refused, 0, True)
    assert not helpers()


def test_a_bug_in_a_helper_brings_its_traceback(two: None) -> None:
    with pytest.raises(KeyError, match="a bug of ours") as told:
        team.everywhere(orders.broken)
    [note] = told.value.__notes__
    assert note.startswith("In process 1:")
    assert "orders.py" in note


def test_an_error_that_cannot_be_sent_is_told(two: None) -> None:
    with pytest.raises(RuntimeError, match="OddError: odd"):
        team.everywhere(orders.odd)


def test_a_killed_helper_is_one_line(two: None) -> None:
    with pytest.raises(InputError, match=r"trainer.devices=2: process 1 was ended by SIGKILL"):
        team.everywhere(orders.killed)


def test_another_number_is_another_team(two: None) -> None:
    team.everywhere(orders.dealt, [])
    [before] = helpers()
    team.ask_for(3, False)
    assert team.everywhere(orders.dealt, [1, 2, 3]) == [[1], [2], [3]]
    assert len(helpers()) == 2
    assert not before.is_running()


RUN = """
import time, orders
from spice.distributed import team
team.ask_for(2, False)
team.everywhere(orders.dealt, [])
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_helper_outlives_its_run(number: signal.Signals) -> None:
    path = os.pathsep.join(sys.path)
    run = subprocess.Popen(
        [sys.executable, "-c", RUN], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"ready\n"
    family = psutil.Process(run.pid).children(recursive=True)
    assert family
    run.send_signal(number)
    run.wait()
    assert not psutil.wait_procs(family, timeout=5)[1]
