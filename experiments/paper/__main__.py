"""The paper's tables and figures, each by one command: what is missing is run, then it is written.

    python -m experiments.paper table1 [figure3b …] [--scale sandbox|small|paper] [-- override …]

A sweep whose jobs are finished is not started again; one that was stopped, or in which jobs failed,
is gone on with. Facts and renderings go to ``experiments/<table>/<scale>``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.paper.runs import collect
from spice.pipeline.jobs import Jobs
from spice.storage.files import write_json

HERE = Path(__file__).parents[1]
FACTS = "facts.json"
SCALES = ("sandbox", "small", "paper")
#: the sandbox's models are too small for two threads; whoever runs this consents to its programs
SETTINGS = {
    "sandbox": ["hydra/launcher=joblib", "benchmarks.allow_code_execution=true", "logger=csv",
                "trainer.progress=false"],
    "small": ["logger=csv"],
    "paper": [],
}  # fmt: skip


def known() -> list[str]:
    """All tables and figures that there are, in the paper's order."""
    found = (path.parent.name for path in HERE.glob("*/report.py"))
    names = (name for name in found if name.startswith(("table", "figure")))
    return sorted(names, key=lambda name: (name[0] == "f", int("".join(filter(str.isdigit, name)))))


def main() -> int:
    """Run, collect, and write; 1 if jobs failed, whatever could be written."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    arguments, overrides = _parser().parse_args(words[:cut]), words[cut + 1 :]
    code = 0
    for name in known() if "all" in arguments.names else arguments.names:
        report = importlib.import_module(f"experiments.{name}.report")
        folders = []
        for sweep in report.SWEEPS:
            folders.append(arguments.to / f"{sweep}-{arguments.scale}")
            code = max(code, run(sweep, arguments.scale, folders[-1], overrides, arguments.plan))
        if not arguments.plan:
            write(report, report.facts(collect(folders)), arguments.report / name / arguments.scale)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=[*known(), "all"], metavar="table")
    parser.add_argument("--scale", choices=SCALES, default="sandbox")
    parser.add_argument("--plan", action="store_true", help="tell what it would cost, run nothing")
    parser.add_argument("--to", type=Path, default=Path("multirun"), metavar="FOLDER")
    parser.add_argument("--report", type=Path, default=HERE, metavar="FOLDER")
    return parser


def run(sweep: str, scale: str, folder: Path, overrides: list[str], plan: bool) -> int:
    """One sweep by the command line, unless all its jobs are finished; its exit code."""
    jobs = Jobs(folder).read()
    if jobs and all(job["state"] == "finished" for job in jobs) and not plan:
        return 0
    program = [sys.executable, "-m", "spice", f"experiment={sweep}", f"scale={scale}"]
    settings = [] if plan else SETTINGS[scale]
    program += [*settings, f"hydra.sweep.dir={folder.resolve()}", *overrides]
    threads = {"OMP_NUM_THREADS": "1"} if scale == "sandbox" else {}
    return subprocess.run(
        [*program, *(["plan=true"] if plan else [])], env={**os.environ, **threads}
    ).returncode


def write(report: ModuleType, facts: dict[str, Any], folder: Path) -> None:
    """Facts, then all that is made of them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FACTS, facts)
    render(report, folder)
    print(folder / "table.md")


def render(report: ModuleType, folder: Path) -> None:
    """Tables and pictures of the facts that a folder holds."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    report.table(facts).write(folder)
    report.draw(facts, folder)


if __name__ == "__main__":
    sys.exit(main())
