"""What selection does on real rows with a real small model.

    make real-checkpoint
    SPICE_REAL_DATA=FOLDER python -m experiments.real.study

SmolLM2-135M-Instruct is proxy and target. What each method chooses is kept in ``choices.csv``, the
losses on rows held out in ``losses.csv``, benchmarks' scores in ``scores.csv``: what is on record
is not done again, so the study can be finished in several sittings. ``report.py`` writes what came
out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.real import choices, report, scoring, tuning
from experiments.real.choices import CLEAN, DRAWN, METHODS, planted
from experiments.real.pool import PLANTINGS
from experiments.real.reading import Real, real

SEEDS = (0, 1, 2)
TUNED = ("none", "full", *(name for name in METHODS if name != "spice unit"))


def pools(method: str) -> list[str]:
    """Where a method chooses: LESS's table is of the first planting alone."""
    return [CLEAN, *(planted(i) for i in range(1 if method == "less" else PLANTINGS))]


def choose(study: Real, path: Path, methods: list[str]) -> None:
    """The choices that are missing."""
    for method in METHODS:
        known = choices.load(path)
        if method in methods and method not in {choice.method for choice in known}:
            found = choices.choose(study, method, pools(method), SEEDS)
            choices.save([*known, *found], path)
            print(f"{method}: chosen", flush=True)


def tune(study: Real, folder: Path, methods: list[str]) -> None:
    """The losses that are missing, all methods with one seed before the next."""
    chosen = choices.load(folder / "choices.csv")
    for seed in SEEDS:
        for method in TUNED:
            known = tuning.load(folder / "losses.csv")
            done = (method, seed) in {(row.method, row.seed) for row in known}
            if method not in methods or done or (method == "none" and seed):
                continue
            drawn = seed if method in DRAWN else 0
            rows = [c.id for c in chosen if c[:3] == (CLEAN, method, drawn)]
            if method == "full":
                place = {row.id: i for i, row in enumerate(study.rows)}
                inside = choices.members(study, CLEAN)
                rows = [row.id for row in study.parts.pool if place[row.id] in set(inside)]
            if not rows and method != "none":
                continue
            found = tuning.losses(study, method, seed, rows)
            tuning.save([*tuning.load(folder / "losses.csv"), *found], folder / "losses.csv")
            print(f"{method}, seed {seed}: tuned", flush=True)


def score(study: Real, folder: Path, methods: list[str]) -> None:
    """The scores that are missing, of the tuned models whose adapters are there."""
    path = folder / "scores.csv"
    for seed in SEEDS:
        for method in methods:
            known = scoring.load(path)
            done = {row.benchmark for row in known if row[:2] == (method, seed)}
            missing = [name for name in scoring.LIMITS if name not in done]
            untuned = method == "none" and seed == 0
            there = untuned or tuning.adapter(study, method, seed).is_dir()
            for name in missing if there else ():
                found = scoring.score(study, method, seed, [name])
                scoring.save([*scoring.load(path), *found], path)
                print(f"{method}, seed {seed}: {name} scored", flush=True)


def main() -> None:
    """Do what is missing and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=TUNED, default=[*TUNED, "spice unit"])
    parser.add_argument("--to", type=Path, default=Path("multirun/real"), metavar="folder")
    parser.add_argument("--report", type=Path, default=Path(__file__).parent, metavar="folder")
    parser.add_argument("--only-report", action="store_true", help="of what is on record")
    arguments = parser.parse_args()
    if not arguments.only_report:
        study = real(arguments.to.resolve())
        choose(study, arguments.report / "choices.csv", arguments.methods)
        tune(study, arguments.report, arguments.methods)
        score(study, arguments.report, arguments.methods)
    report.write(arguments.report)


if __name__ == "__main__":
    main()
