"""``spice report RUN_OR_SWEEP [RUN…]``: a page to read, in one file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from spice.cli.explain import conf_dir
from spice.cli.help import first_comment
from spice.messages import shown


def report(arguments: Sequence[str]) -> int:
    """Write the page, and say where it is; the exit code."""
    parser = argparse.ArgumentParser(
        prog="spice report",
        description="Of finished runs and sweeps: one HTML file with what was chosen and why, "
        "whether it helped and what it cost, a map of the pool and its rows; it needs no network.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_OR_SWEEP")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help="default: report.html in the first folder"
    )
    given = parser.parse_args(list(arguments))
    from spice.pipeline.report import report  # keeps all of it out of start-up

    path = report(given.runs, given.to, described)
    print(f"{shown(str(path))}  {path.stat().st_size / 2**20:.1f} MB")
    return 0


def described(selector: str) -> str:
    """What a selector is, in a sentence; empty of one that is no option of ours."""
    path = conf_dir() / "selector" / f"{selector}.yaml"
    return first_comment(path) if path.is_file() else ""
