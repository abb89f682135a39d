"""Does weighing rows by how far they can be trusted help? Methods, ablations, and other worlds.

    python -m experiments.reliability.study

Sweeps that have finished, or whose runs are in ``runs.csv`` already, are not run again; one that
was interrupted takes its finished stages from the cache. ``report.py`` writes what came out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments import sweeps
from experiments.reliability import report, runs

POOLS = [27866, 56906, 24078, 1670, 31270]  # drawn after all else was fixed, see LOG.md
METHODS = "random,spice,spice_targeted,less,full,fisher,tsds,ifd,selectit,dpp,lead"
THREE, TWO = "seed=0,1,2", "seed=0,1"
CONSENSUS = "selector=spice_consensus"
#: of the pools as they are shipped
SWEEPS = {
    "none": ["selector=none"],  # greedy answers of the untuned model: no seed changes them
    "methods": [f"selector={METHODS}", THREE],
    "consensus": ["selector=spice_consensus,rds", THREE],
    "stratified": ["selector=random", "selector.stratify=source", THREE],
    "unit": ["selector=spice", "selector.scale=unit", THREE],
    "oracle": ["selector=random", "data.only=[clean]", THREE],
    "no_logdet": [CONSENSUS, "selector.fisher=norm", TWO],
    "no_weights": ["selector=spice", "selector.scale=unit", "selector.alpha=10",
                   "selector.penalty=0", "selector.stratify=source", TWO],
    "penalty": [CONSENSUS, "selector.penalty=0.1,0.5", TWO],
    "alone": [CONSENSUS, "selector.stratify=null", TWO],
    "alpha": [CONSENSUS, "selector.alpha=1,100", TWO],
    "sources": [CONSENSUS, "selector.reliability.within=null", "selector.stratify=null", TWO],
    "share": [CONSENSUS, "selector.reliability.share=0.02,0.3", TWO],
}  # fmt: skip
IN_WORLDS = {
    "methods": ["selector=spice_consensus,random,spice_targeted,spice", TWO],
    "stratified": ["selector=random", "selector.stratify=source", TWO],
}
WORLDS = {
    "clean": "data.kinds={clean: 1}",
    "half_redundant": "data.kinds={clean: 0.25, redundant: 0.5, contradicting: 0.15, "
    "off_topic: 0.06, malformed: 0.04}",
    # What teaches nothing twice as often; contradicting rows as they are.
    "twice_the_noise": "data.kinds={clean: 0.34, redundant: 0.11, contradicting: 0.29, "
    "off_topic: 0.16, malformed: 0.10}",
    # All that is untrustworthy twice as often: where the majority errs, no consensus can help.
    "mostly_wrong": "data.kinds={clean: 0.16, redundant: 0.04, contradicting: 0.54, "
    "off_topic: 0.16, malformed: 0.10}",
    "ten_copies": "data.copies={malformed: 10}",
}
COMMON = [
    "budget=120",  # a tenth; a count, since an oracle's pool is a part of it
    "lora.dropout=0",  # drawing it takes a third of a step
    "logger=csv",
    "trainer.progress=false",
]


def command(world: str, pool: int, name: str, arguments: argparse.Namespace) -> list[str]:
    """The multirun of one sweep over one pool of a world."""
    shipped = world == runs.SHIPPED
    overrides = (SWEEPS if shipped else IN_WORLDS)[name]
    drawn = [] if shipped else [WORLDS[world]]
    common = [f"data.seed={pool}", *drawn, *COMMON, *sweeps.on_split(arguments.split)]
    return sweeps.command(common, overrides, place(arguments.to, world, pool, name))


def place(to: Path, world: str, pool: int, name: str) -> Path:
    """The folder of a sweep."""
    return to / world / str(pool) / name


def jobs(arguments: argparse.Namespace) -> list[tuple[str, int, str]]:
    """World, pool and sweep of all of them; the untuned base takes one pool."""
    found = [
        (runs.SHIPPED, pool, name)
        for name in SWEEPS
        for pool in (arguments.pools[:1] if name == "none" else arguments.pools)
    ]
    found += [(w, pool, name) for w in WORLDS for name in IN_WORLDS for pool in arguments.pools]
    return [
        (world, pool, name)
        for world, pool, name in found
        if (not arguments.worlds or world in arguments.worlds)
        and (not arguments.sweeps or name in arguments.sweeps)
    ]


def folder_of(split: str) -> Path:
    """Where the runs of a split are by default: finished ones are known by their folder alone."""
    return Path("multirun/reliability" if split == "test" else f"multirun/reliability_{split}")


def left(arguments: argparse.Namespace, record: Sequence[runs.Line]) -> list[tuple[str, int, str]]:
    """The jobs none of whose runs are on record for this split; a sweep is put there whole."""
    known = {run.sweep for run in record if run.split == arguments.split}
    return [job for job in jobs(arguments) if "/".join(map(str, job)) not in known]


def main() -> None:
    """Run what is missing and write the report beside this file, or elsewhere."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pools", type=int, nargs="+", default=POOLS, metavar="seed")
    parser.add_argument("--worlds", nargs="+", choices=[runs.SHIPPED, *WORLDS])
    parser.add_argument("--sweeps", nargs="+", choices=list(SWEEPS), help="all if left out")
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--workers", type=int)
    parser.add_argument("--to", type=Path, metavar="folder")
    parser.add_argument("--report", type=Path, default=Path(__file__).parent, metavar="folder")
    parser.add_argument("--only-report", action="store_true", help="of what is there")
    arguments = parser.parse_args()
    arguments.to = (arguments.to or folder_of(arguments.split)).resolve()
    record = arguments.report / "runs.csv"
    missing = [] if arguments.only_report else left(arguments, runs.load(record))
    sweeps.run_all(
        {place(arguments.to, *job): partial(command, *job, arguments) for job in missing},
        arguments.workers,
    )
    found = runs.merged(arguments.to, record)
    report.write([run for run in found if run.split == arguments.split], arguments.report)


if __name__ == "__main__":
    main()
