"""Does selection matter in the sandbox? Pools × seeds × settings, then the tables.

    python experiments/sandbox/study.py --pools 1 2 3

Sweeps that have finished are not run again; one that was interrupted takes its finished stages
from the cache. ``report.py`` writes what came out. Other base models than those that are shipped
come from ``python -m spice.sandbox.train --seed 1 --to FOLDER`` and ``--models FOLDER``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import report

BENCHMARKS = ["gsm8k", "bbh", "mmlu", "arc_challenge"]
BENCHMARKS += ["truthfulqa", "ifeval", "humaneval", "mbpp"]
SWEEPS = {
    "base": ["selector=none"],  # greedy answers of the untuned model: no seed changes them
    "controls": ["selector=random,full", "seed=0,1,2"],
    "oracle": ["selector=random", "data.only=[clean]", "seed=0,1,2"],
    "contradicting": ["selector=random", "data.only=[contradicting]", "seed=0,1,2"],
    "greedy": ["selector=fisher,spice", "gradients.scale=raw,clip,unit", "seed=0,1,2"],
    "gains": [
        "selector=fisher",
        "budget=1.0",
        "proxy.{key}={prefix}proxy,{prefix}target,{prefix}qwen",
        "finetune=none",
        "benchmarks=none",
    ],
}
BUDGET = 120  # a tenth of the default pool; a count, since the oracle's pool is a part of it


def command(pool: int, name: str, arguments: argparse.Namespace, folder: Path) -> list[str]:
    """The multirun of one sweep over one pool; what a sweep sets overrides what is common."""
    common = [f"data.seed={pool}", f"budget={BUDGET}", "logger=csv", f"hydra.sweep.dir={folder}"]
    key, prefix = "name", ""
    if arguments.models:
        key, prefix = "path", f"{arguments.models.resolve()}/"
        common += ["proxy=local", "model=local", f"proxy.path={prefix}proxy"]
        common += [f"model.path={prefix}target"]
    overrides = [override.format(key=key, prefix=prefix) for override in SWEEPS[name]]
    if "benchmarks=none" not in overrides:
        common += ["benchmarks.allow_code_execution=true"]
        common += [f"benchmarks.tasks.{name}.split={arguments.split}" for name in BENCHMARKS]
    set_here = {override.partition("=")[0] for override in overrides}
    common = [override for override in common if override.partition("=")[0] not in set_here]
    return [sys.executable, "-m", "spice", "-m", *common, *overrides]


def run(pool: int, name: str, arguments: argparse.Namespace) -> None:
    """One sweep, unless it has its table already."""
    folder = (arguments.to / str(pool) / name).resolve()
    if (folder / "table.md").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted sweep; its stages are kept
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("w") as log:
        # One thread each: models of under a million parameters gain nothing from more.
        subprocess.run(
            command(pool, name, arguments, folder),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    print(f"pool {pool}: {name}", flush=True)


def main() -> None:
    """Run what is missing and write the report beside this file, or elsewhere."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pools", type=int, nargs="+", required=True, metavar="seed")
    parser.add_argument("--sweeps", nargs="+", default=list(SWEEPS), choices=SWEEPS)
    parser.add_argument("--models", type=Path, metavar="folder")
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--to", type=Path, default=Path("multirun/sandbox"), metavar="folder")
    parser.add_argument("--report", type=Path, default=Path(__file__).parent, metavar="folder")
    arguments = parser.parse_args()
    # The base needs no pool but takes one: the first.
    jobs = [
        (pool, name, arguments)
        for name in arguments.sweeps
        for pool in (arguments.pools[:1] if name == "base" else arguments.pools)
    ]
    with ThreadPoolExecutor(arguments.workers) as workers:
        list(workers.map(lambda job: run(*job), jobs))
    report.write(arguments.to, arguments.report)


if __name__ == "__main__":
    main()
