"""What kills, damage, crowds, bad input and hostile programs do to this version of spice.

    python -m experiments.faults.campaign [--cases 60] [--seed 1] [--sections kill damage …]

One line a case (HELD or SHORT), a summary, and exit code 1 if anything fell short. The cases follow
from the seed; nothing is written outside the folder. Linux only.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from experiments.faults import crowds, damage, inputs, kills, programs
from experiments.faults.cases import RUNS, Tally
from experiments.faults.jobs import Jobs

SECTIONS = ("kill", "stop", "damage", "crowd", "input", "program")
#: how many of `--cases` each section takes: a crowd is eight runs, the others one to four
SHARES = {"kill": 1.0, "stop": 0.5, "damage": 1.0, "crowd": 0.05, "input": 1.5, "program": 0.75}
ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run the sections that are asked for."""
    asked = _asked()
    home = Path(asked.folder or tempfile.mkdtemp(prefix="faults-")).resolve()
    home.mkdir(parents=True, exist_ok=True)
    start, lock = time.monotonic(), threading.Lock()

    def say(line: str) -> None:
        with lock:
            print(f"[{time.monotonic() - start:6.0f} s] {line}", flush=True)

    tally = Tally(say)
    jobs = Jobs({"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"})
    golden = None
    if {"kill", "stop", "damage", "crowd"} & set(asked.sections):
        golden = kills.Undisturbed(jobs, home, asked.runs)
        say(f"{len(golden.facts)} runs undisturbed: {sum(golden.seconds.values()):.0f} s in all")
    cases = _cases(asked, jobs, home, golden, tally)
    with ThreadPoolExecutor(asked.workers) as threads:
        for future in [threads.submit(_guarded, case, tally) for case in cases]:
            future.result()
    say(f"{tally.held} held, {len(tally.short)} fell short")
    for line in tally.short:
        print(f"SHORT {line}")
    return 1 if tally.short else 0


def _cases(
    asked: argparse.Namespace,
    jobs: Jobs,
    home: Path,
    golden: kills.Undisturbed | None,
    tally: Tally,
) -> list[Callable[[], None]]:
    """All cases in their order; each is independent of the others."""
    share = {name: round(asked.cases * part + 0.49) for name, part in SHARES.items()}
    found: list[Callable[[], None]] = []
    for section in asked.sections:
        seeds = range(asked.seed * 100_000, asked.seed * 100_000 + share[section])
        if section == "input":
            numbers = inputs.numbers(share[section], asked.seed)
            found += [partial(inputs.refused, jobs, home, number, tally) for number in numbers]
        elif section == "program":
            if why := programs.available():
                tally.say(f"no programs: {why}")
                continue
            names = list(programs.HOSTILE)[: share[section]]
            found += [partial(programs.hostile, name, tally) for name in names]
        elif golden:
            case = {
                "kill": kills.killed, "stop": kills.stopped,
                "damage": damage.damaged, "crowd": crowds.crowd,
            }[section]  # fmt: skip
            found += [partial(case, jobs, home, golden, seed, tally) for seed in seeds]
            if section == "crowd":
                found.append(partial(crowds.one_folder, jobs, home, tally))
    return found


def _guarded(case: Callable[[], None], tally: Tally) -> None:
    """A case that cannot be judged fell short."""
    try:
        case()
    except Exception as error:  # of the campaign's own, or a file that the product left unreadable
        tally.tell("case", str(getattr(case, "args", case))[-80:], [repr(error)[:300]])


def _asked(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=60, help="kills; the others in proportion")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--runs", nargs="+", choices=sorted(RUNS), default=sorted(RUNS))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, help="where the runs happen; default: a new one")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
