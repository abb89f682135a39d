"""``sweep.json``: jobs by what they are; one that fails ends no other; a sweep is gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from spice.errors import InputError
from spice.pipeline.jobs import FILE, Jobs, exit_code, key_of

SMALL = ["data.size=60", "finetune=none", "benchmarks=none", "logger=csv", "hydra.sweep.dir=sweep"]


def swept(folder: Path, *overrides: str) -> tuple[str, str, int]:
    """A multirun of the command line: what it says, what it complains of, its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "spice", "-m", *SMALL, *overrides],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.stdout, done.stderr, done.returncode


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "sweep" / FILE).read_text(encoding="utf-8"))["jobs"]


def test_jobs_are_told_by_what_they_set_and_not_by_how_it_is_spelt() -> None:
    assert key_of(["budget=0.10", "seed=0"]) == key_of(["seed=0", "budget=1e-1"])
    assert key_of(["budget=1"]) != key_of(["budget=1.0"])  # a count, and a share
    assert key_of(["selector=spice"]) != key_of(["selector=random"])


def test_the_same_job_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"jobs 0 and 2 of the sweep are the same: budget=0\.10"):
        Jobs(tmp_path).begin([["budget=0.1"], ["budget=0.2"], ["budget=0.10"]])
    assert not (tmp_path / FILE).exists()


def test_what_is_finished_stays_so_whatever_its_number(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    jobs.begin([["seed=0"], ["seed=1"], ["seed=2"]])
    for number in (0, 2):
        jobs.note(number, [], state="finished", exit_code=0, folder=str(number))
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "results.json").write_text("{}", encoding="utf-8")
    jobs.note(1, [], state="failed", error="why", exit_code=1, folder="1")
    assert exit_code(tmp_path) == 1
    jobs.begin([["seed=2"], ["seed=1"], ["seed=0"]])
    assert [job["state"] for job in jobs.read()] == ["finished", "waiting", "waiting"]  # no results
    assert exit_code(tmp_path) == 0


@pytest.mark.slow
def test_a_job_that_fails_ends_no_other_and_is_made_again(tmp_path: Path) -> None:
    sweep = "selector=random,spice", "budget=5,900,7"
    out, error, code = swept(tmp_path, *sweep)
    assert code == 1, error
    states = [(job["state"], job["exit_code"], job["folder"]) for job in jobs_of(tmp_path)]
    done, failed = ("finished", 0), ("failed", 2)
    wanted = [done, failed, done, done, failed, done]
    assert states == [(*how, str(number)) for number, how in enumerate(wanted)]
    assert "sweep       job 1 failed: budget=900: the pool has only 60 rows" in out
    assert error.splitlines() == [
        "spice: 2 of 6 jobs failed, see sweep/sweep.json; the same command makes them again",
        "spice: job 1, 4: budget=900: the pool has only 60 rows",
    ]
    made = [job["stages"].get("gradients", {}).get("reused") for job in jobs_of(tmp_path)]
    assert made == [None, None, None, False, None, True]
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("sweep/*/results.json"))]
    told = {job["number"]: job for job in jobs_of(tmp_path) if job["state"] == "finished"}
    assert swept(tmp_path, *sweep)[2] == 1
    after = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("sweep/*/results.json"))]
    assert after == before
    assert len(before) == 4
    again = {job["number"]: job for job in jobs_of(tmp_path)}
    assert all(again[number]["seconds"] == job["seconds"] for number, job in told.items())


@pytest.mark.slow
def test_a_grid_of_penalties_and_budgets_reads_once(tmp_path: Path) -> None:
    grid = "selector.penalty=0,0.1,0.2,0.3,0.5,1", "budget=3,5,8,0.2"
    _, error, code = swept(tmp_path, "selector=spice", *grid)
    assert code == 0, error
    jobs = jobs_of(tmp_path)
    assert len(jobs) == 24
    for stage in ("tokens of the proxy", "gradients"):
        assert len({job["stages"][stage]["key"] for job in jobs}) == 1
        assert [job["stages"][stage]["reused"] for job in jobs].count(False) == 1
    assert len({job["stages"]["selection"]["key"] for job in jobs}) == 24


@pytest.mark.slow
def test_two_sweeps_at_once_on_one_store_come_to_what_one_after_the_other_does(
    tmp_path: Path,
) -> None:
    sweeps = {"a": ["selector=spice", "budget=5,9"], "b": ["selector=spice", "budget=9,5,7"]}

    def begun(place: str, name: str) -> subprocess.Popen[bytes]:
        (tmp_path / place).mkdir(exist_ok=True)
        program = [sys.executable, "-m", "spice", "-m", *SMALL, *sweeps[name]]
        return subprocess.Popen(
            [*program, f"hydra.sweep.dir={name}"], cwd=tmp_path / place, stdout=subprocess.DEVNULL
        )

    together = [begun("together", name) for name in sweeps]
    assert [sweep.wait(300) for sweep in together] == [0, 0]
    assert [begun("apart", name).wait(300) for name in sweeps] == [0, 0]
    for path in sorted(tmp_path.glob("apart/*/*/selection.json")):
        there = tmp_path / "together" / path.relative_to(tmp_path / "apart")
        assert there.read_bytes() == path.read_bytes()
    stores = [list(tmp_path.glob(f"{place}/cache/gradients/*/")) for place in ("together", "apart")]
    assert [len(found) for found in stores] == [1, 1]


@pytest.mark.slow
def test_a_sweep_that_is_stopped_says_so_and_goes_on(tmp_path: Path) -> None:
    options = ["selector=random", "seed=0,1,2", "finetune=sandbox", "finetune.epochs=60",
               "finetune.checkpoint_every=1"]  # fmt: skip
    program = [sys.executable, "-m", "spice", "-m", *SMALL, *options]
    sweep = subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("cache/finetune/*.partial/checkpoints/last.ckpt")):
        assert sweep.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(20) == 130
    assert [job["state"] for job in jobs_of(tmp_path)] == ["stopped", "waiting", "waiting"]
    out, error, code = swept(tmp_path, *options)
    assert code == 0, error
    assert "going on from what an interrupted run left" in out
    assert {job["state"] for job in jobs_of(tmp_path)} == {"finished"}
