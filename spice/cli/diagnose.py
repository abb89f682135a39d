"""``spice diagnose RUN [RUN…]``: what the theory says of finished selections."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from spice.messages import shown


def diagnose(arguments: Sequence[str]) -> int:
    """Print each run's facts, and write its ``diagnosis.json``; the exit code."""
    parser = argparse.ArgumentParser(
        prog="spice diagnose",
        description="Of finished runs: the decomposition of gains, bounds, curvature, diversity, "
        "overlaps with each other; diagnosis.json in each folder has it all.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    folders = parser.parse_args(list(arguments)).runs
    from spice.pipeline.diagnose import examine, lines  # keeps all of it out of start-up

    for folder in folders:
        facts = examine(folder, [other for other in folders if other != folder])
        print(f"{folder}")
        for name, told in lines(facts):
            print(f"  {name:<10} {shown(told)}")
    return 0
