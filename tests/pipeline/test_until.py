"""Runs that end behind a step: what they leave, and how they are gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from halves import slow_but

from spice.errors import InputError
from spice.pipeline.run import STEPS
from spice.pipeline.settings import ENDS
from spice.reporting import so_far

Run = Callable[..., Any]
TASK = ["benchmarks=sandbox", "benchmarks.limit=1", "benchmarks.only=[mmlu]"]
MADE = {
    "signals": ["gradients"],
    "selection": ["gradients", "selection"],
    "finetune": ["gradients", "selection", "finetune"],
    "scores": ["gradients", "selection", "finetune", "scores"],
}


def test_every_step_that_a_run_may_end_behind_is_one() -> None:
    assert list(ENDS) == list(MADE) == [step.name for step in STEPS if step.name in ENDS]


@pytest.mark.parametrize("until", slow_but(ENDS, {"selection"}))
def test_a_run_ends_behind_its_step_and_the_same_command_goes_on(
    start: Run, tmp_path: Path, until: str
) -> None:
    folder = tmp_path / "run"
    assert start(f"until={until}", *TASK, folder=folder) is None
    left = json.loads((folder / "until.json").read_text())
    assert (left["until"], list(left["keys"]), left["reused"]) == (until, MADE[until], [])
    assert not (folder / "results.json").exists()
    assert (folder / "selection.json").exists() == (until != "signals")
    assert (folder / "adapter").exists() == (until in ("finetune", "scores"))
    again = start(*TASK, folder=folder)
    assert again["reused"] == MADE[until]
    assert {name: again["keys"][name] for name in MADE[until]} == left["keys"]
    assert not (folder / "until.json").exists()
    assert start(f"until={until}", *TASK, folder=folder)["keys"] == again["keys"]  # it is finished


@pytest.mark.slow
def test_signals_are_read_for_others_though_this_runs_selection_is_there(
    start: Run, tmp_path: Path
) -> None:
    import shutil

    start("finetune=none")
    shutil.rmtree(tmp_path / "cache/gradients")
    start("finetune=none", folder=tmp_path / "no")
    assert not (tmp_path / "cache/gradients").exists()
    start("finetune=none", "until=signals")
    assert (tmp_path / "cache/gradients").exists()
    assert start("finetune=none", "selector.penalty=0.9")["reused"] == ["gradients"]


def test_a_plan_goes_as_far_as_its_run(start: Run, tmp_path: Path) -> None:
    def planned(until: str) -> list[str]:
        start("plan=true", f"until={until}", folder=tmp_path / until)
        stages = json.loads((tmp_path / until / "plan.json").read_text())
        return list(dict.fromkeys(stage["stage"] for stage in stages))

    assert planned("signals") == ["gradients"]
    assert planned("selection") == ["gradients", "greedy", "selection"]


def test_a_step_that_there_is_not_is_refused(start: Run) -> None:
    with pytest.raises(InputError, match=r"until=signal: .*Did you mean 'signals'"):
        start("until=signal")


def test_what_there_is_of_a_sweep_is_a_table(start: Run, tmp_path: Path) -> None:
    for i in (10, 2):
        start("until=selection", f"seed={i}", folder=tmp_path / f"sweep/{i}")
    found = so_far.collect(tmp_path / "sweep")
    assert [run["seed"] for run in found] == [2, 10]
    told = so_far.table(found)
    assert told.splitlines()[0].startswith("Ended before their results")
    first, second = (line for line in told.splitlines() if " selection " in line)
    assert "selection" in first
    assert "gradients" in second
