"""Many runs at once on one cache, and on one run folder."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from experiments.faults.cases import RUNS, Tally, differing, facts
from experiments.faults.jobs import Jobs
from experiments.faults.kills import TIMEOUT, Undisturbed

AT_ONCE = 8


def crowd(jobs: Jobs, home: Path, golden: Undisturbed, seed: int, tally: Tally) -> None:
    """Eight runs of two kinds on one cache come to what they come to one after another."""
    draw = random.Random(f"crowd {seed}")
    folder = home / f"crowd-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    pair = draw.sample(sorted(golden.facts), 2)
    names = [pair[i % 2] for i in range(AT_ONCE)]
    started = [
        jobs.start(
            *RUNS[name], f"cache_dir={folder / 'cache'}", f"hydra.run.dir={folder / str(i)}",
            folder=folder / f"at-{i}",
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    problems = []
    for i, (name, job) in enumerate(zip(names, started, strict=True)):
        ended = job.wait(AT_ONCE * TIMEOUT)
        if ended.code:
            problems.append(f"{name}: {ended.brief()}")
        else:
            problems.append(differing(facts(folder / str(i), folder / "cache"), golden.facts[name]))
    built = [len(list(stage.glob("*/inputs.json"))) for stage in (folder / "cache").iterdir()]
    tally.tell("crowd", f"{seed}: {AT_ONCE} × {' and '.join(pair)}, {sum(built)} stages", problems)
    shutil.rmtree(folder, ignore_errors=True)


def one_folder(jobs: Jobs, home: Path, tally: Tally) -> None:
    """Two runs of different configurations want one run folder: one gets it, one is refused."""
    folder = home / "one-folder"
    shutil.rmtree(folder, ignore_errors=True)
    shared = [f"cache_dir={folder / 'cache'}", f"hydra.run.dir={folder / 'run'}"]
    first = jobs.start(*RUNS["consensus"], *shared, folder=folder / "at-0")
    second = jobs.start(*RUNS["dpp"], *shared, folder=folder / "at-1")
    ends = [job.wait(2 * TIMEOUT) for job in (first, second)]
    codes = sorted(ended.code for ended in ends)
    tally.tell(
        "crowd",
        "two configurations, one run folder",
        [*(e.brief() for e in ends if e.traceback), "" if codes == [0, 2] else f"exits {codes}"],
    )
    shutil.rmtree(folder, ignore_errors=True)
