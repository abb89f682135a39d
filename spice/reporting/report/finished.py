"""Finished runs and sweeps as they lie on disk: what a report is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spice.errors import InputError
from spice.records import ResultsRecord, SelectionRecord
from spice.reporting.tables import natural

RESULTS, SELECTION, SWEEP = "results.json", "selection.json", "sweep.json"
LATER = ("averaged_over", "tokens", "git", "hardware")  # what a report can do without


@dataclass(frozen=True)
class Finished:
    """One run's folder.

    ``results`` and ``selection`` are its two records; other files may be missing.
    """

    folder: Path
    results: dict[str, Any]
    selection: dict[str, Any]

    @cached_property
    def audit(self) -> dict[str, Any] | None:
        """How the pool was read, if that was written."""
        return self.written("audit")

    @cached_property
    def reliability(self) -> dict[str, Any] | None:
        """How far rows were trusted, if they were weighed."""
        return self.written("reliability")

    def written(self, name: str) -> dict[str, Any] | None:
        """A further file of facts; None without.

        Raises:
            InputError: it is damaged.
        """
        path = self.folder / f"{name}.json"
        return _object(path) if path.is_file() else None


def read(folders: Sequence[Path]) -> tuple[list[Finished], list[dict[str, Any]]]:
    """The runs in some folders, each once, and the jobs of those that are sweeps.

    A job has ``sweep``, the folder of its sweep, beside what ``sweep.json`` says of it.

    Raises:
        InputError: a folder holds no finished run, or one of another version.
    """
    found: dict[Path, Finished] = {}
    jobs: list[dict[str, Any]] = []
    for folder in folders:
        for run in _folders(folder):
            found.setdefault(run.resolve(), _read(run))
        if (folder / SWEEP).is_file():
            listed = _object(folder / SWEEP).get("jobs", [])
            jobs += [{**job, "sweep": folder} for job in listed if isinstance(job, dict)]
    if not found and not jobs:
        raise InputError(f"{folders[0]}: a sweep without a job")
    return list(found.values()), jobs


def _folders(folder: Path) -> list[Path]:
    """A run's own, or those below a sweep's."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if (folder / RESULTS).is_file():
        return [folder]
    found = sorted(folder.rglob(RESULTS), key=natural)
    if not found and not (folder / SWEEP).is_file():
        early = (folder / "until.json").is_file()
        why = "it ended before its results (until=…): run it again without" if early else (
            f"it has no {RESULTS}, and no folder in it has one"
        )  # fmt: skip
        raise InputError(f"{folder}: no finished run or sweep, {why}")
    return [path.parent for path in found]


def _read(folder: Path) -> Finished:
    results, selection = folder / RESULTS, folder / SELECTION
    if not selection.is_file():
        raise InputError(f"{folder}: no finished run, it has no {SELECTION}")
    return Finished(
        folder,
        _record(results, set(ResultsRecord.__annotations__) - set(LATER)),
        _record(selection, set(SelectionRecord.__annotations__)),
    )


def _record(path: Path, needed: set[str]) -> dict[str, Any]:
    found = _object(path)
    if missing := sorted(needed - set(found)):
        raise InputError(
            f"{path}: has no {', '.join(missing)}; another version of spice wrote it, or none"
        )
    return found


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete it") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no object; delete it")
    return found
