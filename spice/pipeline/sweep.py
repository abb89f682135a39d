"""The end of a sweep: its jobs side by side."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from spice.messages import hear
from spice.pipeline import jobs
from spice.pipeline.plan import report
from spice.reporting import so_far, tables

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger("spice")


def conclude(config: DictConfig) -> int:
    """Print the table of a sweep and write table.md, table.csv and comparison.png beside its runs.

    Of a sweep that was only planned, the plan of all its jobs; of jobs that were to end before
    their results, what they have made. Returns the sweep's exit code: 0 if no job has failed.
    """
    hear()
    folder = Path(config.hydra.sweep.dir)
    if config.get("plan"):
        report.conclude(folder, config.limits, Path(config.cache_dir).expanduser())
        return 0
    if begun := so_far.collect(folder):
        log.info("\n%s", so_far.table(begun))
    lines = tables.compare(tables.collect(folder))
    if lines:
        tables.show(lines, folder)
    return jobs.exit_code(folder)
