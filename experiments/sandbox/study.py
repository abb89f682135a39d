"""Does selection matter in the sandbox? Pools × seeds × settings, then the tables.

    python -m experiments.sandbox.study --pools 1 2 3

Sweeps that have finished are not run again; one that was interrupted takes its finished stages
from the cache. ``report.py`` writes what came out. Other base models than those that are shipped
come from ``python -m spice.sandbox.making.train --seed 1 --to FOLDER`` and ``--models FOLDER``.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from experiments import sweeps
from experiments.sandbox import report

SWEEPS = {
    "base": ["selector=none"],  # greedy answers of the untuned model: no seed changes them
    "controls": ["selector=random,full", "seed=0,1,2"],
    "oracle": ["selector=random", "data.only=[clean]", "seed=0,1,2"],
    "contradicting": ["selector=random", "data.only=[contradicting]", "seed=0,1,2"],
    "greedy": ["selector=fisher,spice", "selector.scale=raw,clip,unit", "seed=0,1,2"],
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
    """The multirun of one sweep over one pool."""
    common = [f"data.seed={pool}", f"budget={BUDGET}", "logger=csv"]
    key, prefix = "name", ""
    if arguments.models:
        key, prefix = "path", f"{arguments.models.resolve()}/"
        common += ["proxy=local", "model=local", f"proxy.path={prefix}proxy"]
        common += [f"model.path={prefix}target"]
    overrides = [override.format(key=key, prefix=prefix) for override in SWEEPS[name]]
    if "benchmarks=none" not in overrides:
        common += sweeps.on_split(arguments.split)
    return sweeps.command(common, overrides, folder)


def main() -> None:
    """Run what is missing and write the report beside this file, or elsewhere."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pools", type=int, nargs="+", required=True, metavar="seed")
    parser.add_argument("--sweeps", nargs="+", default=list(SWEEPS), choices=SWEEPS)
    parser.add_argument("--models", type=Path, metavar="folder")
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--workers", type=int)
    parser.add_argument("--to", type=Path, default=Path("multirun/sandbox"), metavar="folder")
    parser.add_argument("--report", type=Path, default=Path(__file__).parent, metavar="folder")
    arguments = parser.parse_args()
    # The base needs no pool but takes one: the first.
    folders = [
        (pool, name, arguments.to / str(pool) / name)
        for name in arguments.sweeps
        for pool in (arguments.pools[:1] if name == "base" else arguments.pools)
    ]
    jobs = {to: partial(command, pool, name, arguments, to) for pool, name, to in folders}
    sweeps.run_all(jobs, arguments.workers)
    report.write(arguments.to, arguments.report)


if __name__ == "__main__":
    main()
