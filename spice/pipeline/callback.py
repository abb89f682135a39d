"""What Hydra calls at the end of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from spice.reporting.tables import collect, compare, publish


class MultirunTable(Callback):
    """Hydra callback: at the end of a multirun, print its table and draw its figure."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Write table.md, table.csv and comparison.png into the sweep's folder."""
        folder = Path(config.hydra.sweep.dir)
        if config.get("plan"):
            from spice.pipeline.plan import report

            report.publish(folder, config.limits, Path(config.cache_dir).expanduser())
            return
        lines = compare(collect(folder))
        if lines:
            publish(lines, folder)
