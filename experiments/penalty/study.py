"""What does the penalty do? Scales of the gradient × λ × schedules, on pools of the sandbox.

    python -m experiments.penalty.study

Sweeps that have finished are not run again; one that was interrupted takes its finished stages
from the cache. ``report.py`` writes what came out.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from experiments import sweeps
from experiments.penalty import report

POOLS = [1881, 61951, 6566]  # drawn after all else was fixed, see LOG.md
SEEDS = "seed=0,1,2"
SPICE = ["selector=spice", "selector.scale=raw,clip,unit"]
WELL_FORMED = "data.only=[clean,redundant,contradicting,off_topic]"
SWEEPS = {
    "global": [*SPICE, "selector.penalty=0,0.1,0.5,1", SEEDS],
    # A pool has five windows, so the published step after every ten would never be felt.
    "pools": [*SPICE, "selector.penalty=0,0.1,0.5,1", SEEDS, "schedule=pools",
              "schedule.refresh_every=1"],
    "well_formed": [*SPICE, "selector.penalty=0,0.1", SEEDS, WELL_FORMED],
    "random": ["selector=random", SEEDS, f"{WELL_FORMED},[clean],null"],
    "matched": ["selector=random_matched", SEEDS],
}  # fmt: skip
MATCHED = 0.1  # the matched draw copies the selections with the paper's λ
COMMON = [
    "data.size=600",
    "budget=60",
    "lora.dropout=0",  # as in the published code's final tuning; drawing it takes a third of a step
    "benchmarks.limit=40",
    "logger=csv",
    "trainer.progress=false",
]


def command(pool: int, name: str, arguments: argparse.Namespace) -> list[str]:
    """The multirun of one sweep over one pool."""
    overrides = SWEEPS[name]
    if name == "matched":
        overrides = [*overrides, f"selector.like={','.join(matched(arguments.to / str(pool)))}"]
    common = [f"data.seed={pool}", *COMMON, *sweeps.on_split(arguments.split)]
    return sweeps.command(common, overrides, arguments.to / str(pool) / name)


def matched(folder: Path) -> list[str]:
    """The run folders that the matched draws copy: λ = 0.1 at each scale, one for all seeds."""

    def copied(config: dict[str, Any]) -> bool:
        return config["seed"] == 0 and config["selector"]["penalty"] == MATCHED

    runs = sorted((folder / "global").glob("*/selection.json"))
    return [
        str(run.parent)
        for run in runs
        if copied(json.loads(run.read_text(encoding="utf-8"))["config"])
    ]


def main() -> None:
    """Run what is missing and write the report beside this file, or elsewhere."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pools", type=int, nargs="+", default=POOLS, metavar="seed")
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--workers", type=int)
    parser.add_argument("--to", type=Path, default=Path("multirun/penalty"), metavar="folder")
    parser.add_argument("--report", type=Path, default=Path(__file__).parent, metavar="folder")
    arguments = parser.parse_args()
    arguments.to = arguments.to.resolve()
    jobs = {
        arguments.to / str(pool) / name: partial(command, pool, name, arguments)
        for name in SWEEPS
        for pool in arguments.pools
    }
    copying = {to: to.with_name("global") for to in jobs if to.name == "matched"}
    sweeps.run_all(jobs, arguments.workers, after=copying)
    report.write(arguments.to, arguments.report)


if __name__ == "__main__":
    main()
