"""What a run's live display has on it, and whether there is one."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from spice.pipeline.jobs import Jobs
from spice.reporting.live import display, fits

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from spice.reporting.telling import Display


def display_of(
    config: DictConfig, steps: Sequence[str], sweep: str | None, alone: bool
) -> Display | None:
    """The display of a run's steps; None where it would be in the way, or is not wanted.

    ``alone`` is a run that has the terminal for itself.
    """
    wanted = OmegaConf.select(config, "trainer.progress") is True
    if not (alone and wanted and fits(sys.stdout)):
        return None
    standing = _standing(Path(sweep), list(config.names.overrides)) if sweep else ""
    return partial(display, steps=steps, sweep=standing)


def _standing(sweep: Path, overrides: Sequence[str]) -> str:
    """How many jobs of a sweep are done, and by what the one at work differs from others."""
    jobs = Jobs(sweep).read()
    states = Counter(job["state"] for job in jobs)
    shared = set(overrides).intersection(*(job["overrides"] for job in jobs))
    own = " ".join(override for override in overrides if override not in shared)
    left = states["waiting"] + states["running"] + states["stopped"]
    failed = f", {states['failed']} failed" if states["failed"] else ""
    done = f"{states['finished']} of {states.total()} jobs finished{failed}, {left} left"
    return f"sweep: {done}; now {own}" if own else f"sweep: {done}"
