"""The rows to choose from, and everything that can be refused before a model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spice.data.unread import labels_told, told
from spice.messages import say, warn
from spice.pipeline.budget import resolve_budget
from spice.pipeline.steps.base import Step
from spice.reporting.card import other_selections

if TYPE_CHECKING:
    from spice.pipeline.run import Run

SHOWN = 10  # skipped rows


class ReadPool(Step):
    """Sets ``pool``, ``k`` and ``others``."""

    name = "pool"

    def execute(self, run: Run) -> None:
        """Read the rows, and refuse a budget or weights that cannot work.

        Raises:
            InputError: rows, budget, sources or weights are not what they should be.
        """
        with run.ledger.timed(self.name):
            run.others = other_selections(run.config.card.compare)
            run.pool = run.parts.data.load()
            run.k = resolve_budget(run.config.budget, len(run.pool.rows))
            run.parts.selector.check_sources(row.source for row in run.pool.rows)
            self._tell(run)
            for checkpoint in (run.parts.proxy, run.parts.model):
                if checkpoint:
                    checkpoint.digest(run.cache / "weights")

    def _tell(self, run: Run) -> None:
        for note in run.pool.notes:
            warn(self.name, note)
        if skipped := run.pool.skipped:
            shown = "\n           ".join(skipped[:SHOWN])
            warn(self.name, f"{len(skipped)} rows skipped, the first:\n           {shown}")
        for what, count in run.pool.changed.items():
            warn(self.name, f"{what}: in {count:,} rows")
        for line in told(run.pool.unread):
            warn(self.name, line)
        if labels := labels_told(run.pool.unread):
            say(self.name, labels)
        say(self.name, f"{len(run.pool.rows):,} rows, key {run.pool.digest()}")
