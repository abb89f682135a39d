"""The end of a sweep: its jobs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spice.pipeline.plan import report
from spice.reporting import tables

if TYPE_CHECKING:
    from omegaconf import DictConfig


def conclude(config: DictConfig) -> None:
    """Print the table of a sweep and write table.md, table.csv and comparison.png beside its runs.

    Of a sweep that was only planned, the plan of all its jobs.
    """
    folder = Path(config.hydra.sweep.dir)
    if config.get("plan"):
        report.conclude(folder, config.limits, Path(config.cache_dir).expanduser())
        return
    lines = tables.compare(tables.collect(folder))
    if lines:
        tables.show(lines, folder)
