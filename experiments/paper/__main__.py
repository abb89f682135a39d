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
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra import compose, initialize_config_dir

from experiments.paper.runs import collect
from spice.cli.explain import conf_dir
from spice.errors import InputError
from spice.pipeline.jobs import Jobs, key_of, listed
from spice.storage.files import write_json
from spice.storage.stages import digest

HERE = Path(__file__).parents[1]
FACTS = "facts.json"
PAPERS = re.compile(r"(table|figure)\d+[a-z]?")
SCALES = ("sandbox", "small", "paper")
#: the sandbox's models are too small for two threads; whoever runs this consents to its programs
SETTINGS = {
    "sandbox": ["hydra/launcher=joblib", "benchmarks.allow_code_execution=true", "logger=csv",
                "trainer.progress=false"],
    "small": ["logger=csv"],
    "paper": [],
}  # fmt: skip


def known() -> list[str]:
    """All tables and figures that there are, in the paper's order, and then the ablations."""
    names = [path.parent.name for path in HERE.glob("*/report.py")]
    found = sorted(
        filter(PAPERS.fullmatch, names), key=lambda name: (name[:3] == "fig", len(name), name)
    )
    return [*found, "ablations"]


def main() -> int:
    """Run, collect, and write; 1 if jobs failed, whatever could be written."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    arguments, overrides = _parser().parse_args(words[:cut]), words[cut + 1 :]
    codes = [0]
    for name in known() if "all" in arguments.names else arguments.names:
        report = importlib.import_module(f"experiments.{name}.report")
        folders = {sweep: arguments.to / f"{sweep}-{arguments.scale}" for sweep in report.SWEEPS}
        for sweep, folder in folders.items():
            try:
                given = [*overrides, *_more(report, sweep, folders)]
            except InputError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 2
            codes.append(run(sweep, arguments.scale, folder, given, arguments.plan))
            if codes[-1] not in (0, 1):  # refused, or somebody asked to stop
                return codes[-1]
        if not arguments.plan:
            write(report, list(folders.values()), arguments.report / name / arguments.scale)
    return max(codes)


def _more(report: ModuleType, sweep: str, folders: Mapping[str, Path]) -> list[str]:
    """Overrides of a sweep that follow from the folders of those before it."""
    follows: Callable[[str, Mapping[str, Path]], list[str]] | None
    follows = getattr(report, "overrides", None)
    return follows(sweep, folders) if follows else []


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
    given = [
        f"experiment={sweep}",
        f"scale={scale}",
        *([] if plan else SETTINGS[scale]),
        *overrides,
    ]
    finished = {job["key"] for job in Jobs(folder).read() if job["state"] == "finished"}
    of_jobs = [override for override in given if not override.startswith("hydra")]
    if not plan and finished >= {key_of(job) for job in listed(_params(sweep, scale), of_jobs)}:
        return 0
    # said again though the experiments say it: else overrides could not hold lists of their own
    where = f"hydra.sweep.dir={folder.resolve()}"
    program = [sys.executable, "-m", "spice", "--multirun", *given, where]
    threads = {"OMP_NUM_THREADS": "1"} if scale == "sandbox" else {}
    return _call([*program, *(["plan=true"] if plan else [])], {**os.environ, **threads})


def _call(program: list[str], environment: Mapping[str, str]) -> int:
    """Run a program to its end; who asks this one to stop asks that one, which ends cleanly."""
    child = subprocess.Popen(program, env=environment)
    hand_on = {
        signal.SIGTERM: lambda number, frame: child.send_signal(number),
        signal.SIGINT: lambda number, frame: None,  # a terminal tells both
    }
    before = {number: signal.signal(number, act) for number, act in hand_on.items()}
    try:
        return child.wait()
    finally:
        for number, act in before.items():
            signal.signal(number, act)


def _params(sweep: str, scale: str) -> dict[str, Any]:
    """What an experiment sweeps over by itself."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = [f"experiment={sweep}", f"scale={scale}"]
        config = compose("config", overrides, return_hydra_config=True)
        return dict(config.hydra.sweeper.params)


def write(report: ModuleType, folders: Sequence[Path], to: Path) -> None:
    """Facts of what is finished, unless they are there, then all that is made of them."""
    to.mkdir(parents=True, exist_ok=True)
    made_of, path = digest(_inputs(report, folders)), to / FACTS
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8")).get("made_of") != made_of:
        write_json(path, {"made_of": made_of, **report.facts(collect(folders))})
    render(report, to)
    print(to / "table.md")


def _inputs(report: ModuleType, folders: Sequence[Path]) -> dict[str, Any]:
    """What facts are made of: the jobs' stages, and the code that reads them."""
    assert report.__file__ is not None
    code = [Path(report.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    jobs = [
        (job["key"], {step: stage["key"] for step, stage in job["stages"].items()})
        for folder in folders
        for job in Jobs(folder).read()
        if job["state"] == "finished"
    ]
    return {"jobs": jobs, "code": [path.read_text(encoding="utf-8") for path in code]}


def render(report: ModuleType, folder: Path) -> None:
    """Tables and pictures of the facts that a folder holds."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    report.table(facts).write(folder)
    report.draw(facts, folder)


if __name__ == "__main__":
    sys.exit(main())
