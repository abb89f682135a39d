"""The runs of the study as lines of one CSV file, which is all that the report needs."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.evidence import KINDS
from experiments.sweeps import BENCHMARKS

SHIPPED = "shipped"


@dataclass(frozen=True, order=True)
class Line:
    """One run: scores in %, the shares of kinds among its picks in %, π where it was estimated.

    ``sweep`` is world/pool/sweep, ``wrong`` the true share of rows that are neither clean nor
    redundant, in %.
    """

    world: str
    setting: str
    pool: int
    seed: int
    sweep: str
    k: int
    average: float
    scores: dict[str, float] = dataclasses.field(compare=False)
    kinds: dict[str, float] = dataclasses.field(compare=False)
    wrong: float
    estimated: float | None
    split: str = "test"


def setting(config: Mapping[str, Any], name: str) -> str:
    """What a run of the selector ``name`` is called."""
    own = config["selector"]
    if name == "random":
        if config["data"]["only"]:
            return "oracle"
        return "uniform within sources" if own.get("stratify") else "uniform"
    if name == "spice" and own["scale"] == "unit":
        return "logdet without weights" if own.get("stratify") else "spice unit"
    if name != "spice_consensus":
        return name
    weights = own["reliability"]
    changes = {
        "weights without logdet": own["fisher"] == "norm",
        f"λ = {own['penalty']:g}": own["penalty"] > 0,
        f"α = {own['alpha']:g}": own["alpha"] != 10,
        f"largest {weights['share']:g} of the votes": weights["share"] != 0.1,
        "no regard to sources": weights["within"] is None,
        "no shares for sources": own["stratify"] is None and weights["within"] is not None,
    }
    return next((change for change, made in changes.items() if made), name)


def merged(folder: Path, path: Path) -> list[Line]:
    """The finished sweeps' runs below a folder and those on record, which then has them all."""
    lines = {_key(line): line for line in load(path)}
    for found in sorted(folder.glob("*/*/*/*/results.json")):
        if not (found.parents[1] / "table.md").is_file():
            continue
        line = _line(found.parent)
        lines[_key(line)] = line
    save(sorted(lines.values()), path)
    return sorted(lines.values())


def _key(line: Line) -> tuple[str, str, str, int]:
    return line.split, line.sweep, line.setting, line.seed


def _line(folder: Path) -> Line:
    results, truth = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("results", "truth")
    )
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    world, pool, sweep = folder.parts[-4:-1]
    kinds = {kind: truth["kind"].get(kind, {}) for kind in KINDS}
    trusted = results["selection"].get("reliability") or {}
    return Line(
        world=world,
        setting=setting(config, results["selector"]),
        pool=int(pool),
        seed=results["seed"],
        sweep=f"{world}/{pool}/{sweep}",
        k=results["k"],
        average=100 * results["average"],
        scores={name: 100 * results["scores"][name]["value"] for name in BENCHMARKS},
        kinds={kind: 100 * shares.get("selection", 0.0) for kind, shares in kinds.items()},
        wrong=100 * sum(kinds[kind].get("pool", 0.0) for kind in KINDS[2:]),
        estimated=None if trusted.get("untrustworthy") is None else 100 * trusted["untrustworthy"],
        split=config["benchmarks"]["tasks"][BENCHMARKS[0]]["split"],
    )


FIXED = ("world", "setting", "pool", "seed", "sweep", "k", "average", "wrong", "estimated", "split")


def save(lines: Sequence[Line], path: Path) -> None:
    """Put the runs on record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*FIXED, *BENCHMARKS, *KINDS])
        for line in lines:
            told = [getattr(line, name) for name in FIXED]
            values = [*told, *line.scores.values(), *line.kinds.values()]
            writer.writerow([f"{v:.2f}" if isinstance(v, float) else v for v in values])


def load(path: Path) -> list[Line]:
    """The runs that are on record."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_read(entry) for entry in csv.DictReader(file)]


def _read(entry: Mapping[str, str]) -> Line:
    return Line(
        world=entry["world"],
        setting=entry["setting"],
        pool=int(entry["pool"]),
        seed=int(entry["seed"]),
        sweep=entry["sweep"],
        k=int(entry["k"]),
        average=float(entry["average"]),
        scores={name: float(entry[name]) for name in BENCHMARKS},
        kinds={kind: float(entry[kind]) for kind in KINDS},
        wrong=float(entry["wrong"]),
        estimated=float(entry["estimated"]) if entry["estimated"] else None,
        split=entry.get("split", "test"),  # all that were on record before splits were told
    )
