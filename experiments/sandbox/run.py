"""The sandbox's study: `python experiments/sandbox/run.py [folder]`, about an hour on two cores.

Three pools × three seeds of every arm through ``spice -m``, then ``results.json`` and ``table.md``
in the folder. Runs that are finished are not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

POOLS, SEEDS = "0,1,2", "0,1,2"
SCALES = "raw,clip,unit"
ARMS: dict[str, list[str]] = {
    "base": ["selector=random", "finetune=none"],
    "full": ["selector=full"],
    "oracle": ["selector=full", "data.size=120", "data.kinds={clean: 1}"],
    "contradicting": ["selector=full", "data.size=120", "data.kinds={contradicting: 1}"],
    "random": ["selector=random"],
    "fisher": ["selector=fisher", f"gradients.scale={SCALES}"],
    "spice": ["selector=spice", f"gradients.scale={SCALES}"],
}
STUDENT = {2: 12.71, 3: 4.30, 9: 2.31}  # 97.5 % points of t with n - 1 degrees of freedom


def run(arm: str, folder: Path) -> None:
    """All pools and seeds of one arm, unless they are there already."""
    if list(folder.glob(f"{arm}/*/results.json")):
        return
    common = [
        f"data.seed={POOLS}",
        f"seed={SEEDS}",
        "logger=csv",
        "benchmarks.allow_code_execution=true",
        f"cache_dir={folder / 'cache'}",
        f"hydra.sweep.dir={folder / arm}",
    ]
    program = [sys.executable, "-m", "spice", "-m"]
    subprocess.run([*program, *ARMS[arm], *common], check=True)


def collect(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The results of every line of the table, with the truth about what was selected."""
    lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for arm in ARMS:
        for path in sorted(folder.glob(f"{arm}/*/results.json")):
            result = json.loads(path.read_text())
            scale = [o for o in result["overrides"] if o.startswith("gradients.scale=")]
            label = " ".join([arm, *(o.partition("=")[2] for o in scale)])
            truth = json.loads((path.parent / "truth.json").read_text())
            lines[label].append({"result": result, "truth": truth})
    return lines


def interval(values: list[float]) -> str:
    """The mean in points with the half width of its 95 % interval over runs."""
    mean = 100 * statistics.fmean(values)
    if len(values) not in STUDENT:
        return f"{mean:.1f}"
    half = 100 * STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.1f} ± {half:.1f}"


def table(lines: dict[str, list[dict[str, Any]]]) -> str:
    """One line per arm: average, benchmarks, and the kinds in what was selected."""
    benchmarks = list(next(iter(lines.values()))[0]["result"]["scores"])
    kinds = ["clean", "redundant", "contradicting", "off_topic", "malformed"]
    heads = ["arm", "runs", "average", *benchmarks, *(f"% {kind}" for kind in kinds)]
    rows = [heads, ["---"] * len(heads)]
    for label, runs in lines.items():
        scores = [r["result"]["scores"] for r in runs]
        shares = [r["truth"]["kind"] for r in runs]
        rows.append(
            [
                label,
                str(len(runs)),
                interval([r["result"]["average"] for r in runs]),
                *(interval([s[name]["value"] for s in scores]) for name in benchmarks),
                *(interval([s.get(k, {"selection": 0.0})["selection"] for s in shares])
                  for k in kinds),
            ]
        )  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def main() -> None:
    """Run what is missing, then write the record and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/sandbox-study"))
    folder = parser.parse_args().folder.resolve()
    for arm in ARMS:
        run(arm, folder)
    lines = collect(folder)
    (folder / "results.json").write_text(json.dumps(lines, indent=1) + "\n")
    (folder / "table.md").write_text(table(lines))
    print(table(lines))


if __name__ == "__main__":
    main()
