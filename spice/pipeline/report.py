"""``spice report``: one page about finished runs, with the pool that they chose from opened again.

No model is read and nothing is made anew: what is no longer in the cache is left out, and said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spice.errors import InputError
from spice.pipeline.draft import Draft
from spice.pipeline.run import Run
from spice.reporting.report import page
from spice.reporting.report.facts import Report
from spice.reporting.report.finished import Finished, read
from spice.reporting.report.rows import PoolSeen, gains_left
from spice.selectors.base import GradientSelector
from spice.selectors.spice import Spice
from spice.signals.keyed import GRADIENTS
from spice.storage.files import check_writable

FILE = "report.html"
LEFT = 2_000  # picks up to which it is told what other rows would still add
WORK = 2**42  # and n × k × d


def report(folders: Sequence[Path], to: Path | None, described: Callable[[str], str]) -> Path:
    """Write the page of some runs and sweeps to ``to``, or into the first folder; where it is.

    ``described`` says in a sentence what a selector is.

    Raises:
        InputError: a folder holds no finished run, or one of another version, or the page cannot be
            written.
    """
    runs, jobs = read(folders)
    path = to or folders[0] / FILE
    if path.is_dir():
        path = path / FILE
    check_writable(path.parent, "--to")
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet(), TemporaryDirectory() as scratch:
        pool, notes = opened(runs, Path(scratch))
        page.write(path, Report(runs, jobs, path.parent, described), pool, notes)
    return path


def opened(runs: Sequence[Finished], scratch: Path) -> tuple[PoolSeen | None, list[str]]:
    """The pool that most runs chose from, with what is still known of its rows; what is missing.

    ``scratch`` is a folder for what is written while it is read.
    """
    pools = [run.results["inputs"].get("pool") for run in runs]
    if not pools:
        return None, []
    most = max(dict.fromkeys(pools), key=pools.count)
    chose = [number for number, pool in enumerate(pools) if pool == most]
    notes = []
    if others := len(runs) - len(chose):
        notes.append(
            f"{others} of {len(runs)} runs chose from another pool; its rows are not in this page, "
            "a report of those runs alone has them"
        )
    first = max(chose, key=lambda number: _knows(runs[number]))
    try:
        state = _state(runs[first], scratch, most)
    except InputError as error:
        return None, [*notes, f"No rows and no map: {error}"]
    pool = PoolSeen(state.pool.rows, *_lengths(state), chose)
    _read_signals(pool, state, runs, first)
    return pool, notes


def _knows(run: Finished) -> tuple[bool, bool, int]:
    """How much a run can tell of its pool; the first of equals is taken."""
    keys = run.results["keys"]
    return "gradients" in keys, "reliability" in keys, run.selection["k"]


def _state(run: Finished, scratch: Path, digest: str) -> Run:
    """A run whose pool is read, and nothing else looked at.

    Raises:
        InputError: its configuration or its pool is not what it was.
    """
    path = run.folder / "config.yaml"
    try:
        config = OmegaConf.load(path)
    except (OSError, YAMLError, OmegaConfBaseException, ValueError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__})") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{path} is no configuration")
    state = Run(Draft(config, scratch))
    state.pool = state.draft.pool
    if state.pool.digest() != digest:
        raise InputError(f"the rows of the pool changed since {run.folder} chose from it")
    return state


def _lengths(state: Run) -> tuple[np.ndarray, str]:
    """Supervised tokens of each row, n; characters where no model can be asked."""
    try:
        tokenized = state.as_proxy
        if tokenized is not None:
            return tokenized.lengths, "tokens"
    except InputError:
        pass
    return np.array([len(row.response) for row in state.pool.rows], dtype=np.int64), "characters"


def _read_signals(pool: PoolSeen, state: Run, runs: Sequence[Finished], number: int) -> None:
    """What was read off the proxy, where it still is in the cache."""
    if "gradients" not in runs[number].results["keys"]:
        return
    try:
        keyed = state.keyed
        missing = keyed is None or [n for n, k in keyed.keys.items() if not state.stages.has(n, k)]
        if keyed is None or missing:
            raise InputError(_not_there(state.cache))
        signals = keyed.read()
    except InputError as error:
        pool.notes.append(f"No map and no reliability of each row: {error}")
        return
    pool.gradients = signals.get(GRADIENTS)
    pool.reliability = signals.get("reliability")
    pool.left = _left(pool, state, runs[number])
    pool.of = number if pool.left is not None else None


def _not_there(cache: Path) -> str:
    told = f"the gradients are not in {cache}, or another version's are"
    return told if cache.is_absolute() else f"{told} (a folder that is told from where a run began)"


def _left(pool: PoolSeen, state: Run, run: Finished) -> np.ndarray | None:
    """What each row would still add to a run's choice, n; None where that cannot be said."""
    selector, selection = state.parts.selector, run.selection
    if pool.gradients is None or not selection["k"] or selection["alpha"] is None:
        return None
    if not isinstance(selector, GradientSelector) or not isinstance(selector, Spice):
        return None
    n, d = pool.gradients.shape
    if selector.fisher != "exact" or selection["k"] > LEFT or n * d * selection["k"] > WORK:
        return None
    weights = pool.reliability["weight"] if pool.reliability is not None else None
    seen = selector.seen(pool.gradients, range(n), weights)
    return gains_left(seen, np.array(selection["indices"], dtype=np.int64), selection["alpha"])


@contextmanager
def quiet() -> Iterator[None]:
    """What a run has said of its pool need not be said again."""
    log = logging.getLogger("spice")
    before: Any = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
