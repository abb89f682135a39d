"""``spice export RUN --to FORM``: a run's rows, as another trainer reads them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from spice.data.trainer_forms import FORMS
from spice.messages import shown


def export(arguments: Sequence[str]) -> int:
    """Write a run's rows, and print where they are and what the trainer needs; the exit code."""
    parser = argparse.ArgumentParser(
        prog="spice export",
        description="The rows that a run chose, in the order of picking, as a file that a trainer "
        "reads; history and system turns are kept.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="its folder")
    parser.add_argument("--to", required=True, choices=FORMS, help="who is to read them")
    parser.add_argument(
        "--not-chosen", action="store_true", help="the rest of the pool, in its own order"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where to; RUN/export if not given"
    )
    asked = parser.parse_args(list(arguments))
    from spice.pipeline.export import export as write  # keeps all of it out of start-up

    done = write(asked.run, asked.to, asked.folder, not_chosen=asked.not_chosen)
    print(f"{shown(str(done.path))}: {done.rows:,} rows")
    print(f"{done.place}:\n{indent(shown(done.config, lines=True), '  ')}")
    for warning in done.warnings:
        print(f"warning: {warning}")
    return 0
