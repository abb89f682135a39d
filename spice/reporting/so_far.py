"""Runs that were to end before their results (``until=``): what there is of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spice.reporting.tables import drawn, label, natural, varied
from spice.storage.files import read_json

TITLE = "Ended before their results; the same command without until= goes on"
COLUMNS = ("seed", "until", "made", "reused", "seconds")


def collect(folder: Path) -> list[dict[str, Any]]:
    """All ``until.json`` below a folder, in the order of their paths."""
    return [read_json(path) for path in sorted(folder.rglob("until.json"), key=natural)]


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """For a terminal: a row per run, with what it made and what was there already."""
    labels = [{k: v for k, v in label(run).items() if k != "until"} for run in runs]
    shown = varied(labels)
    rows = ([*(named.get(n, "") for n in shown), *_cells(run)]
            for named, run in zip(labels, runs, strict=True))  # fmt: skip
    return drawn([[*shown, *COLUMNS], *rows], TITLE)


def _cells(run: Mapping[str, Any]) -> Iterator[str]:
    made = [name for name in run["keys"] if name not in run["reused"]]
    yield from (str(run["seed"]), run["until"])
    yield from (", ".join(names) or "–" for names in (made, run["reused"]))
    yield f"{sum(run['seconds'].values()):.1f}"
