"""Runs of the product, several sweeps at a time; a sweep that has finished is not run again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

BENCHMARKS = ["gsm8k", "bbh", "mmlu", "arc_challenge"]
BENCHMARKS += ["truthfulqa", "ifeval", "humaneval", "mbpp"]


def command(common: Sequence[str], overrides: Sequence[str], folder: Path) -> list[str]:
    """A multirun into ``folder``; what a sweep sets overrides what is common."""
    own = {override.partition("=")[0] for override in overrides}
    kept = [override for override in common if override.partition("=")[0] not in own]
    return [
        *(sys.executable, "-m", "spice", "-m", *kept, *overrides),
        f"hydra.sweep.dir={folder.resolve()}",
    ]


def on_split(split: str) -> list[str]:
    """Score this split of the sandbox's benchmarks, generated code included."""
    splits = [f"benchmarks.tasks.{name}.split={split}" for name in BENCHMARKS]
    return ["benchmarks.allow_code_execution=true", *splits]


def run(program: Sequence[str], folder: Path) -> None:
    """One sweep, unless it has its table already; an interrupted one finds its stages again."""
    if (folder / "table.md").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("w", encoding="utf-8") as log:
        # One thread each: models of under a million parameters gain nothing from more.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(program, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    print(folder, flush=True)


def run_all(
    jobs: Mapping[Path, Callable[[], Sequence[str]]],
    workers: int | None,
    after: Mapping[Path, Path] = MappingProxyType({}),
) -> None:
    """All of them in their order, as many at a time as there are workers.

    A job's command is made when it is its turn, once the job that it comes ``after`` is done.
    """
    started: dict[Path, Future[None]] = {}

    def do(folder: Path) -> None:
        if folder in after:
            started[after[folder]].result()
        run(jobs[folder](), folder)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for folder in jobs:
            started[folder] = pool.submit(do, folder)
    for future in started.values():
        future.result()
