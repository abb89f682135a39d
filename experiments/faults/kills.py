"""Runs killed at random moments and at random changes of files, and stopped politely."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from experiments.faults.cases import RUNS, Tally, differing, facts
from experiments.faults.jobs import Job, Jobs

TIMEOUT = 300  # seconds, for a run of five
POLITE = 2.0  # seconds that a run may take to stop
#: the exit codes of runs that were asked to stop: 128 + the signal's number, and 75 (EX_TEMPFAIL
#: of sysexits.h) for a preemption, which a cluster may answer by queueing the job again
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 75}


class Undisturbed:
    """What each run comes to when nobody disturbs it, with the seconds that it takes."""

    def __init__(self, jobs: Jobs, home: Path, names: list[str]) -> None:
        self.facts: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        for name in names:
            folder = home / name
            shutil.rmtree(folder, ignore_errors=True)
            ended = jobs.run(*arguments(name, folder), folder=folder, timeout=TIMEOUT)
            if ended.code:
                raise SystemExit(f"{name} does not run undisturbed: {ended.brief()} ({folder})")
            self.facts[name] = facts(folder / "run", folder / "cache")
            self.seconds[name] = ended.seconds


def arguments(name: str, folder: Path) -> list[str]:
    """A run's overrides, with a cache and a run folder of its own."""
    return [*RUNS[name], f"cache_dir={folder / 'cache'}", f"hydra.run.dir={folder / 'run'}"]


def killed(jobs: Jobs, home: Path, golden: Undisturbed, seed: int, tally: Tally) -> None:
    """One case: a run killed one to three times and started again until it is done."""
    draw = random.Random(f"kill {seed}")
    name = draw.choice(sorted(golden.facts))
    times, by_trap = draw.randint(1, 3), draw.random() < 0.5
    folder = home / f"kill-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    moments = []
    for _ in range(times):
        if by_trap:
            # the first changes are many and early; the moments are spread over their logarithm
            at = int(8 * 2 ** draw.uniform(0, 7))
            jobs.start(*arguments(name, folder), folder=folder, trap=at).wait(TIMEOUT)
            moments.append(f"change {at}")
        else:
            after = draw.uniform(0.1, 1.0) * golden.seconds[name]
            job = jobs.start(*arguments(name, folder), folder=folder)
            _after(job, after)
            job.kill()
            job.wait(TIMEOUT)
            moments.append(f"{after:.1f} s")
    tally.tell(
        "kill", f"{seed}: {name}, at {', '.join(moments)}", _goes_on(jobs, name, folder, golden)
    )
    shutil.rmtree(folder, ignore_errors=True)


def stopped(jobs: Jobs, home: Path, golden: Undisturbed, seed: int, tally: Tally) -> None:
    """One case: SIGTERM, SIGINT or SIGUSR1, with or without Slurm's variables around."""
    draw = random.Random(f"stop {seed}")
    name, number = draw.choice(sorted(golden.facts)), draw.choice(sorted(CODES))
    slurm = _slurm() if draw.random() < 0.3 else {}
    after = draw.uniform(0.15, 0.9) * golden.seconds[name]
    folder = home / f"stop-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    job = jobs.start(*arguments(name, folder), folder=folder, **slurm)
    _after(job, after)
    family, there, began = job.children(), job.running, time.monotonic()
    job.kill(number)
    ended = job.wait(20)
    took = time.monotonic() - began
    problems = []
    if there and ended.code != 0:  # it may just have ended by itself
        left = _alive(family)
        problems = [
            "" if ended.code == CODES[number] else f"{ended.brief()}, expected {CODES[number]}",
            f"took {took:.1f} s to stop" if took > POLITE + 0.5 else "",
            "a traceback" if ended.traceback else "",
            f"left {left} behind" if left else "",
        ]
    elif there and took > 1.0:
        problems = [f"went on for {took:.1f} s and ended with exit 0"]
    label = f"{seed}: {name}, {number.name} after {after:.1f} s{' under Slurm' if slurm else ''}"
    tally.tell("stop", label, [*problems, *_goes_on(jobs, name, folder, golden)])
    shutil.rmtree(folder, ignore_errors=True)


def _goes_on(jobs: Jobs, name: str, folder: Path, golden: Undisturbed) -> Iterator[str]:
    """The same command ends well, comes to the same, and leaves nothing unfinished behind."""
    ended = jobs.run(*arguments(name, folder), folder=folder, timeout=TIMEOUT)
    if ended.code or ended.traceback:
        yield f"started again: {ended.brief()}"
        return
    yield differing(facts(folder / "run", folder / "cache"), golden.facts[name])
    left = [str(path.relative_to(folder)) for path in (folder / "cache").rglob("*.partial*")]
    yield f"left {', '.join(left[:3])}" if left else ""


def _after(job: Job, seconds: float) -> None:
    until = time.monotonic() + seconds
    while job.running and time.monotonic() < until:
        time.sleep(0.02)


def _alive(family: list[psutil.Process]) -> int:
    _, alive = psutil.wait_procs(family, timeout=2)
    return len(alive)


def _slurm() -> dict[str, str]:
    """What a job of two tasks finds around it, without srun having started it."""
    return {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2",
        "SLURM_NODELIST": "node1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS_PER_NODE": "2",
        "SLURMD_NODENAME": os.uname().nodename,
    }  # fmt: skip
