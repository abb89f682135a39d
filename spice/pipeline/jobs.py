"""``sweep.json``: every job of a sweep and how it stands, written as it goes.

A job is ``waiting``, ``running``, ``finished``, ``failed`` or ``stopped``. One that fails is told
at once and ends no other; the same command makes it again, and whatever else is not finished. Jobs
write for themselves, wherever a launcher runs them.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice import stopping
from spice.errors import InputError
from spice.messages import shown
from spice.pipeline.run_folder import RESULTS, SO_FAR
from spice.storage import locks
from spice.storage.files import read_json, short_hash, write_json

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

log = logging.getLogger("spice")

FILE, LOCK = "sweep.json", ".sweep.locked"
BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # the one that knows all its jobs
WAITING: dict[str, Any] = {
    "state": "waiting",
    "exit_code": None,
    "seconds": None,
    "error": None,
    "stages": {},
}


@dataclass(frozen=True)
class Jobs:
    """The record in a sweep's ``folder``."""

    folder: Path

    def read(self) -> list[dict[str, Any]]:
        """All jobs, in the order of their numbers; none where there is no record."""
        try:
            return read_json(self.folder / FILE)["jobs"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return []

    def begin(self, each: Sequence[Sequence[str]]) -> None:
        """Note the jobs to come, each by its overrides; what is known of equal ones is kept.

        Raises:
            InputError: two of them are the same.
        """
        keys = [key_of(overrides) for overrides in each]
        for number, key in enumerate(keys):
            if (first := keys.index(key)) != number:
                told = " ".join(each[number])
                raise InputError(f"jobs {first} and {number} of the sweep are the same: {told}")
        with self._held():
            known = {job["key"]: job for job in self.read()}
            jobs = [
                {"number": number, "key": key, "overrides": list(overrides), "folder": None}
                | _kept(known.get(key), self.folder)
                for number, (key, overrides) in enumerate(zip(keys, each, strict=True))
            ]
            self._write(jobs)

    def note(self, number: int, overrides: Sequence[str], **facts: Any) -> None:
        """Facts of one job; one that nobody had listed is added."""
        with self._held():
            jobs = self.read()
            known = next((job for job in jobs if job["number"] == number), None)
            if known is None:
                named = {"number": number, "key": key_of(overrides), "overrides": list(overrides)}
                jobs = sorted([*jobs, known := named | WAITING], key=lambda job: job["number"])
            known |= facts
            self._write(jobs)

    def _held(self) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        return locks.held(self.folder / LOCK, lambda watch: None)

    def _write(self, jobs: list[dict[str, Any]]) -> None:
        write_json(self.folder / FILE, {"jobs": jobs})


def begin(config: DictConfig) -> None:
    """Note the jobs of a multirun that is about to start; other sweepers' as they start.

    Raises:
        InputError: two of them are the same.
    """
    if not config.plan and config.hydra.sweeper._target_ == BASIC:
        jobs = listed(config.hydra.sweeper.params, config.hydra.overrides.task)
        Jobs(Path(config.hydra.sweep.dir)).begin(jobs)


def listed(params: Mapping[str, Any] | None, overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job, as Hydra's own sweeper sets them.

    ``params`` are its own, of the configuration; ``overrides`` those of the command line.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    given = parsed([*(f"{name}={value}" for name, value in (params or {}).items()), *overrides])
    return BasicSweeper.split_arguments(given, max_batch_size=None)[0]


def key_of(overrides: Sequence[str]) -> str:
    """What a job is told by: its overrides in any order, however their numbers are spelt."""
    told = sorted(f"{given.key_or_group}={given.value()!r}" for given in parsed(overrides))
    return short_hash("\n".join(told).encode())


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra understands them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides(list(overrides))


def _kept(job: dict[str, Any] | None, folder: Path) -> dict[str, Any]:
    """What is still true of a job that an earlier start has finished."""
    if job and job["state"] == "finished" and (folder / job["folder"] / RESULTS).is_file():
        return {name: job[name] for name in (*WAITING, "folder")}
    return dict(WAITING)


def attempt(hydra: HydraConf, work: Callable[[], float | None]) -> float | None:
    """Do one job of a sweep and note how it goes; None if it fails.

    Hydra would end the sweep behind a batch in which one job raises.
    """
    sweep, folder = Path(hydra.sweep.dir), Path(hydra.runtime.output_dir)
    jobs, start = Jobs(sweep), time.time()
    number, overrides = int(hydra.job.num), list(hydra.overrides.task)

    def note(state: str, code: int | None, error: str | None) -> None:
        told = {"exit_code": code, "error": error, "seconds": round(time.time() - start, 1)}
        jobs.note(number, overrides, state=state, **told, stages=_stages(folder))

    where = {
        "folder": os.path.relpath(folder, sweep),
        "on": f"{socket.gethostname()}:{os.getpid()}",
    }
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    done_before = any(j["number"] == number and j["state"] == "finished" for j in jobs.read())
    if not done_before:
        jobs.note(number, overrides, **WAITING | {"state": "running", "started": begun} | where)
    try:
        found = work()
    except Exception as error:
        known = isinstance(error, InputError)
        told = shown(str(error)) if known else f"{type(error).__name__}: {shown(str(error))}"
        log.error("%-11s job %d failed: %s", "sweep", number, told, exc_info=not known)
        note("failed", 2 if known else 1, told)
        return None
    except BaseException:
        note("stopped", stopping.asked(), None)
        raise
    if not done_before:  # else its seconds stay those that it took
        note("finished", 0, None)
    return found


def _stages(folder: Path) -> dict[str, dict[str, Any]]:
    """What a job made and what it found there, from the files that it has written."""
    for name in (RESULTS, SO_FAR):
        if (folder / name).is_file():
            facts = read_json(folder / name)
            tokens = {f"tokens of the {role}": told for role, told in facts["tokens"].items()}
            steps = facts["keys"].items()
            return tokens | {s: {"key": key, "reused": s in facts["reused"]} for s, key in steps}
    return {}


def exit_code(folder: Path) -> int:
    """Tell how many jobs of a sweep have failed and why, and what its exit code is.

    0 without; 2 if nothing but input was refused, and for all jobs; else 1.
    """
    jobs = Jobs(folder).read()
    failed = [job for job in jobs if job["state"] == "failed"]
    if not failed:
        return 0
    reasons: dict[str, list[int]] = {}
    for job in failed:
        reasons.setdefault(job["error"], []).append(job["number"])
    print(
        f"spice: {len(failed)} of {len(jobs)} jobs failed, see {folder / FILE}; the same command "
        "makes them again",
        *(f"job {', '.join(map(str, numbers))}: {why}" for why, numbers in reasons.items()),
        sep="\nspice: ",
        file=sys.stderr,
    )
    refused = len(failed) == len(jobs) and all(job["exit_code"] == 2 for job in failed)
    return 2 if refused else 1
