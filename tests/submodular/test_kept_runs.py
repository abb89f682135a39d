"""Kept greedy runs: the same picks as a run of its own, and as few runs as can be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice.pipeline.budget import swept_picks
from spice.pipeline.jobs import Jobs
from spice.submodular.greedy import GreedyTrace
from spice.submodular.kept_runs import KeptRuns, load, save
from spice.submodular.kernel import squared_norms
from spice.submodular.objective import Objective

INPUTS = {"signals": "of a test"}


class Counting(Objective):
    """Notes the length of every run."""

    def maximise(self, k: int, *args: float, **options: object) -> GreedyTrace:
        """Note it, and run."""
        lengths.append(k)
        return super().maximise(k, *args, **options)  # type: ignore[arg-type]


lengths: list[int] = []


@pytest.fixture
def objective() -> Counting:
    lengths.clear()
    G = np.random.default_rng(0).normal(size=(40, 6))
    return Counting(G, squared_norms(G), 1.0, 1e-8, "exact", "dual")


def test_a_longer_run_serves_every_shorter_one(objective: Counting, tmp_path: Path) -> None:
    orders = KeptRuns(tmp_path, INPUTS)
    for k in (20, 5, 12, 1):
        found = orders.maximise(objective, k, 0.1)
        assert found == Objective.maximise(objective, k, 0.1)
    assert lengths == [20]


def test_a_sweep_goes_through_each_penalty_once(objective: Counting, tmp_path: Path) -> None:
    orders = KeptRuns(tmp_path, INPUTS, longest=20)
    for k in (2, 5, 10, 20):
        for penalty in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0):
            orders.maximise(objective, k, penalty)
    assert lengths == [20] * 6


@settings(max_examples=40)
@given(st.integers(1, 40), st.sampled_from([0.3, 0.6, 0.9, 1.0]), st.booleans())
def test_one_run_serves_every_stopping_rule(k: int, ratio: float, inclusive: bool) -> None:
    G = np.random.default_rng(k).normal(size=(40, 6))
    objective = Objective(G, squared_norms(G), 1.0, 1e-8, "exact", "dual")
    stopping = {"stop_ratio": ratio, "stop_inclusive": inclusive}
    whole = objective.maximise(40, 0.1)
    expected = objective.maximise(k, 0.1, **stopping)  # type: ignore[arg-type]
    assert whole.prefix(k).stopped(ratio, inclusive) == expected.prefix(k)


def test_a_run_that_stopped_early_is_not_taken_for_a_whole_one(
    objective: Counting, tmp_path: Path
) -> None:
    orders = KeptRuns(tmp_path, INPUTS)
    stopped = orders.maximise(objective, 30, 0.1, stop_ratio=0.6)
    assert 0 < len(stopped.picks) < 30
    earlier = orders.maximise(objective, 30, 0.1, stop_ratio=0.7)
    assert lengths == [30]
    assert earlier.picks == stopped.picks[: len(earlier.picks)]
    lengths.clear()
    assert len(orders.maximise(objective, 30, 0.1).picks) == 30
    assert lengths == [30]


def test_a_run_is_read_back_as_it_was_written(objective: Counting, tmp_path: Path) -> None:
    trace = objective.maximise(7, 0.1)
    save(trace, tmp_path / "run")
    found = load(tmp_path / "run")
    assert found == trace
    for (t, gains), (u, others) in zip(trace.later, found.later, strict=True):
        assert t == u
        assert np.array_equal(gains, others)


def test_the_budgets_of_a_sweep_are_read_off_its_record(tmp_path: Path) -> None:
    assert swept_picks(tmp_path, 1000) == []
    budgets = ["0.01", "5e-2", "300", "3000", "0.01"]  # the fourth is more than there is
    Jobs(tmp_path).begin([[f"budget={k}", f"seed={i}"] for i, k in enumerate(budgets)])
    assert swept_picks(tmp_path, 1000) == [10, 50, 300, 10]


@pytest.mark.slow
def test_a_sweep_of_the_command_line_makes_one_run_per_penalty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spice.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [
        "spice", "-m", "selector.penalty=0,0.5", "budget=3,12,6", "data.size=60", "finetune=none",
        "benchmarks=none", "logger=csv", "trainer.progress=false", "hydra.sweep.dir=sweep",
        f"cache_dir={tmp_path / 'cache'}",
    ])  # fmt: skip
    main()
    kept = [load(path) for path in (tmp_path / "cache/orders").glob("*.npz")]
    assert [len(trace.picks) for trace in kept] == [12, 12]
    assert len(list((tmp_path / "cache/gradients").glob("*/inputs.json"))) == 1
    chosen = [json.loads((tmp_path / f"sweep/{i}/selection.json").read_text()) for i in range(3)]
    assert [found["k"] for found in chosen] == [3, 12, 6]
    assert chosen[1]["ids"][:6] == chosen[2]["ids"]
