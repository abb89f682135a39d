"""The plans of a job or a sweep as one table, held against limits and the machine."""

from __future__ import annotations

import io
import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from spice.messages import say, warn

log = logging.getLogger("spice")
GB = 1e9
HEADS = ("stage", "to come", "time", "work", "memory", "disk", "there", "on disk")
AT = 1e14  # operations a second
LAST = ("greedy", "selection", "finetune", "scores")


@dataclass(frozen=True)
class Entry:
    """All stages of one name: how many are to come and are there, and what those to come take.

    ``untold`` of them take what cannot be told beforehand. ``memory`` is the most of any, ``kept``
    what those that are there take on disk, ``operations`` the work as far as it is known.
    """

    stage: str
    to_come: int
    there: int
    seconds: float
    memory: int
    disk: int
    kept: int
    untold: int
    operations: float


def lines(plans: Sequence[Sequence[Mapping[str, Any]]]) -> list[Entry]:
    """One line per name of a stage; what several jobs share counts once."""
    stages = {(s["stage"], s["key"]): s for plan in reversed(plans) for s in plan}
    names = sorted({stage["stage"]: None for plan in plans for stage in plan}, key=_place)
    return [_line(name, [s for (stage, _), s in stages.items() if stage == name]) for name in names]


def _place(name: str) -> int:
    """Signals come before what is made of them."""
    return LAST.index(name) + 1 if name in LAST else 0


def _line(name: str, stages: Sequence[Mapping[str, Any]]) -> Entry:
    there = [stage for stage in stages if stage["there"]]
    to_come = [stage for stage in stages if not stage["there"]]
    return Entry(
        name,
        len(to_come),
        len(there),
        seconds=sum(stage["seconds"] or 0.0 for stage in to_come),
        memory=max((stage["memory"] or 0 for stage in to_come), default=0),
        disk=sum(stage["disk"] or 0 for stage in to_come),
        kept=sum(stage["disk"] or 0 for stage in there),
        untold=sum(stage["seconds"] is None for stage in to_come),
        operations=sum(stage["operations"] or 0.0 for stage in to_come),
    )


def total(found: Sequence[Entry]) -> Entry:
    """Time and disk add up, memory does not: one stage runs after the other."""
    return Entry(
        "total",
        to_come=sum(line.to_come for line in found),
        there=sum(line.there for line in found),
        seconds=sum(line.seconds for line in found),
        memory=max((line.memory for line in found), default=0),
        disk=sum(line.disk for line in found),
        kept=sum(line.kept for line in found),
        untold=sum(line.untold for line in found),
        operations=sum(line.operations for line in found),
    )


def conclude(folder: Path, limits: Mapping[str, Any], cache: Path) -> None:
    """Print the plans below a folder as a table, and end with exit code 2 beyond a limit."""
    plans = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("plan.json"))
    ]
    found = lines(plans)
    whole = total(found)
    log.info("\n%s", table([*found, whole], len(plans)))
    if whole.untold:
        count = f"{whole.untold} stage{'s' if whole.untold > 1 else ''}"
        why = "no model is read, or one that is too large or too slow to be tried on this machine"
        say("plan", f"the time of {count} is left out: {why}; of such a model the weights are told")
        hours = _time(whole.operations / AT)
        say("plan", f"all work that is told takes {hours} at {_work(AT)}/s, as on one good GPU")
    if too_much := _beyond_machine(whole, cache):
        warn("plan", too_much)
    if refused := beyond(whole, limits):
        print(f"spice: {refused}", file=sys.stderr)
        sys.exit(2)


def beyond(whole: Entry, limits: Mapping[str, Any]) -> str | None:
    """The first limit that a plan goes beyond, as a message."""
    hours, memory, disk = whole.seconds / 3600, whole.memory / GB, whole.disk / GB
    for name, value in {"hours": hours, "memory_gb": memory, "disk_gb": disk}.items():
        if limits[name] is not None and value > limits[name]:
            return f"limits.{name}={limits[name]}: the plan comes to {value:.3g}"
    return None


def _beyond_machine(whole: Entry, cache: Path) -> str | None:
    here = next(path for path in (cache.absolute(), *cache.absolute().parents) if path.exists())
    free = shutil.disk_usage(here).free
    if whole.disk > free:
        return f"{_size(whole.disk)} are to be written, {_size(free)} are free where {cache} is"
    return None


def table(found: Sequence[Entry], jobs: int) -> str:
    """For a terminal."""
    from rich.console import Console
    from rich.table import Table

    name = "job" if jobs == 1 else "jobs"
    drawn = Table(title=f"Plan of {jobs} {name}; nothing was run", title_justify="left")
    for i, column in enumerate(HEADS):
        drawn.add_column(column, justify="right" if i else "left")
    for line in found:
        if line.stage == "total":
            drawn.add_section()
        drawn.add_row(*_cells(line))
    out = io.StringIO()
    Console(file=out, width=96).print(drawn)
    return out.getvalue()


def _cells(line: Entry) -> list[str]:
    dash = "–"
    told = line.to_come > line.untold
    return [
        line.stage,
        str(line.to_come),
        _time(line.seconds) if told else dash,
        _work(line.operations) if line.operations else dash,
        _size(line.memory) if line.memory else dash,
        _size(line.disk) if line.disk else dash,
        str(line.there),
        _size(line.kept) if line.kept else dash,
    ]


def _time(seconds: float) -> str:
    return "< 1 s" if seconds < 1 else str(timedelta(seconds=round(seconds)))


def _work(operations: float) -> str:
    for unit, name in ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP")):
        if operations >= unit:
            return f"{operations / unit:.1f} {name}"
    return f"{operations / 1e9:.1f} GFLOP"


def _size(count: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.1f} kB"
