"""Tables of the paper: intervals that hold what they promise, sentences that say no more."""

from __future__ import annotations

import csv
import importlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from experiments.paper import __main__ as command
from experiments.paper import published
from experiments.paper.table import Cell, Line, Table
from spice.reporting import differences
from spice.reporting.differences import average, difference, estimate, holm, verdict

HERE = Path(command.__file__).parents[1]


def scored(rng: np.random.Generator, shift: float = 0.0) -> dict[str, dict[str, np.ndarray]]:
    """Two benchmarks, one of two subtasks."""
    return {
        "one": {"a": rng.normal(0.5 + shift, 0.3, 40)},
        "two": {"b": rng.normal(0.4 + shift, 0.3, 20), "c": rng.normal(0.3 + shift, 0.3, 60)},
    }


def test_subtasks_weigh_alike_within_benchmarks_and_these_in_the_average() -> None:
    run = {"one": {"a": np.array([1.0])}, "two": {"b": np.zeros(3), "c": np.array([1.0])}}
    assert average(run) == pytest.approx((1 + 0.5) / 2)
    assert estimate([run]).mean == pytest.approx(75)


def test_the_items_luck_is_that_of_their_means() -> None:
    """The bootstrap's variance against Σ s²/n of the strata."""
    run = scored(np.random.default_rng(0))
    expected = sum(
        values.var() / len(values) / (len(tasks) * len(run)) ** 2
        for tasks in run.values()
        for values in tasks.values()
    )
    assert differences._items_variance(run) == pytest.approx(expected, rel=0.06)


def test_subtasks_of_one_item_are_not_without_luck() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 2, size=30).astype(float)
    apart = estimate([{"bbh": {f"task{i}": values[i : i + 1] for i in range(30)}}])
    whole = estimate([{"bbh": {"task": values}}])
    assert apart.mean == pytest.approx(whole.mean)
    assert (apart.low, apart.high) == pytest.approx((whole.low, whole.high), rel=1e-6)
    mixed = estimate([{"bbh": {"one": values[:1], "two": values[1:2], "many": values[2:]}}])
    assert mixed.high > mixed.mean


def test_of_luck_in_seeds_alone_it_is_student() -> None:
    rng = np.random.default_rng(1)
    ours = {s: {"x": {"t": np.full(5, v)}} for s, v in enumerate(rng.normal(0.6, 0.1, 4))}
    theirs = {s: {"x": {"t": np.full(5, v)}} for s, v in enumerate(rng.normal(0.5, 0.1, 4))}
    found = difference(ours, theirs)
    a, b = ([average(run) for run in side.values()] for side in (ours, theirs))
    expected = ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((100 * low, 100 * high))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """With luck of seeds and of items; rather too wide, since what both share counts twice."""
    rng, held, tries = np.random.default_rng(2), 0, 300
    for _ in range(tries):
        items = {"x": {"t": rng.normal(0, 0.3, 30)}}
        runs = [
            {"x": {"t": items["x"]["t"] + rng.normal(0, 0.05) + rng.normal(0, 0.2, 30)}}
            for _ in range(3)
        ]
        found = estimate(runs)
        held += found.low <= 0 <= found.high
    assert 0.93 <= held / tries <= 1.0


def test_nothing_is_paired_that_was_asked_something_else() -> None:
    rng = np.random.default_rng(3)
    run, other = scored(rng), scored(rng)
    with pytest.raises(ValueError, match="no seed"):
        difference({0: run}, {1: run})
    with pytest.raises(ValueError, match="c: other items"):
        difference({0: run}, {0: {**other, "two": {**other["two"], "c": np.zeros(3)}}})
    with pytest.raises(ValueError, match="other benchmarks"):
        difference({0: run}, {0: {"one": run["one"]}})


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_a_difference_turns_round_with_its_sides(seed: int, seeds: int) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = ({s: scored(rng) for s in range(seeds)} for _ in range(2))
    one, other = difference(ours, theirs), difference(theirs, ours)
    assert one.mean == pytest.approx(-other.mean)
    assert one.low == pytest.approx(-other.high)
    assert one.p == pytest.approx(other.p)
    nothing = difference(ours, ours)
    assert (nothing.mean, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)


def test_a_sentence_says_what_the_corrected_p_lets_it() -> None:
    facts = {"mean": 4.0, "low": 1.0, "high": 7.0, "p": 0.01, "seeds": 3, "items": 960}
    assert verdict("spice", "random", facts, 0.02, 2) == (
        "spice is above random (+4.0 points, 95 % interval +1.0 to +7.0; "
        "p = 0.020 by Holm for 2 comparisons; 3 seeds, 960 items)."
    )
    told = verdict("spice", "random", {**facts, "seeds": 1}, 0.09, 9)
    assert told.startswith(  # its own interval leaves 0 out
        "No difference shown between spice and random, all comparisons counted (+4.0 points"
    )
    told = verdict("spice", "random", {**facts, "low": -1.0, "seeds": 1}, 0.09, 9)
    assert told.startswith("No difference shown between spice and random (+4.0 points")
    assert "one seed, its luck not counted" in told
    assert "is below" in verdict("a", "b", {**facts, "mean": -4.0}, 0.0001, 1)
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "c": 0.06, "b": 0.06}
    )


def sample() -> Table:
    return Table(
        "T",
        ["average", "IF%|"],
        [
            Line("rds", [Cell(50.0, 45.0, 55.0, 120), Cell()], in_paper=False),
            Line("spice_x", [Cell(60.0, 58.0, 62.0, 120, 58.0), Cell(paper=38.6)]),
        ],
    )


def test_what_the_paper_has_not_stands_below_a_line() -> None:
    rows = sample().markdown().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| selector", "| ---", "| spice_x", "| *not in the paper*", "| rds",
    ]  # fmt: skip
    assert "60.0 (58.0 to 62.0)<br>paper 58.0 (+2.0)" in rows[2]
    assert "–<br>paper 38.6" in rows[2]


def test_other_programs_read_the_other_forms() -> None:
    [first, second, *_] = csv.DictReader(io.StringIO(sample().csv()))
    assert (first["selector"], first["value"], first["low"], first["paper"]) == (
        "spice_x", "60", "58", "58",
    )  # fmt: skip
    assert (second["value"], second["paper"]) == ("", "38.6")
    latex = sample().latex()
    assert r"spice\_x & 60.0 {\tiny $\pm$ 2.0} & -- \\" in latex
    assert r"IF\%" in latex
    assert r"IF%\| |" in sample().markdown()
    assert latex.count("&") % 2 == 0
    assert latex.count(r"\midrule") == 2


def test_the_papers_averages_are_those_of_its_rows() -> None:
    for name, row in published.TABLE1.items():
        assert np.mean(list(row.values())) == pytest.approx(published.TABLE1_AVERAGE[name], abs=0.1)
    for jaccard, ours, _ in published.TABLE12.values():
        assert ours / (2 - ours) == pytest.approx(jaccard, abs=0.012)


@pytest.mark.parametrize("folder", sorted(HERE.glob("*/*/facts.json")), ids=str)
def test_what_is_committed_is_what_its_facts_say(folder: Path, tmp_path: Path) -> None:
    """A rendering that is older than its facts or its renderer differs from a new one."""
    kept = folder.parent
    report: Any = importlib.import_module(f"experiments.{kept.parent.name}.report")
    table = report.table(json.loads(folder.read_text(encoding="utf-8")))
    for name, text in table.texts().items():
        assert (kept / name).read_text(encoding="utf-8") == text, (
            f"make {kept.parent.name} writes it anew"
        )
    report.draw(json.loads(folder.read_text(encoding="utf-8")), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {path.name for path in kept.iterdir()}


@pytest.mark.slow
def test_a_figure_from_nothing_and_again_from_what_is_there(tmp_path: Path) -> None:
    """The command itself, on a small pool: what is finished is not run again."""
    program = [sys.executable, "-m", "experiments.paper", "figure1b", "figure2c"]
    program += ["--to", str(tmp_path / "runs"), "--report", str(tmp_path), "--"]
    program += ["selector=random,spice", "seed=0", "data.size=240", "finetune=none"]
    program += ["benchmarks=none", f"cache_dir={tmp_path / 'cache'}"]
    done = subprocess.run(program, cwd=HERE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "figure1b" / "sandbox" / "table.md").read_bytes()
    assert b"SPICE" in first
    records = list((tmp_path / "runs").glob("*/sweep.json"))
    written = {path: path.stat().st_mtime_ns for path in records}
    assert written
    begun = time.perf_counter()
    again = subprocess.run(program, cwd=HERE.parent, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert time.perf_counter() - begun < 60
    assert {path: path.stat().st_mtime_ns for path in records} == written  # no sweep was begun
    assert (tmp_path / "figure1b" / "sandbox" / "table.md").read_bytes() == first
    assert (tmp_path / "figure2c" / "sandbox" / "conflict.png").is_file()


@pytest.mark.slow
def test_who_stops_the_command_stops_its_sweep_which_goes_on_later(tmp_path: Path) -> None:
    program = [
        sys.executable,
        "-m",
        "experiments.paper",
        "figure1b",
        "--to",
        str(tmp_path / "runs"),
    ]
    program += ["--report", str(tmp_path), "--", "selector=random,spice", "seed=0", "data.size=240"]
    program += ["finetune=none", "benchmarks=none", f"cache_dir={tmp_path / 'cache'}"]
    begun = subprocess.Popen(program, cwd=HERE.parent, stderr=subprocess.DEVNULL)
    record = tmp_path / "runs" / "table1-sandbox" / "sweep.json"
    until = time.monotonic() + 120
    while not (record.is_file() and '"running"' in record.read_text()):
        assert begun.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    sweep = psutil.Process(begun.pid).children(recursive=True)
    begun.terminate()
    assert begun.wait(60) == 143
    assert not [process for process in psutil.wait_procs(sweep, 30)[1] if process.is_running()]
    again = subprocess.run(program, cwd=HERE.parent, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "figure1b" / "sandbox" / "table.md").is_file()
