"""The rows to choose from, which were read when the configuration was checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spice.data.unread import labels_told, told
from spice.messages import say, warn
from spice.pipeline.steps.base import Step

if TYPE_CHECKING:
    from spice.pipeline.run import Run

SHOWN = 10  # skipped rows


class ReadPool(Step):
    """Sets ``pool``, ``k`` and ``others``."""

    name = "pool"

    def execute(self, run: Run) -> None:
        """Tell of the rows, and look at every weight of the models.

        Raises:
            InputError: a weight is not finite.
        """
        with run.ledger.timed(self.name):
            run.pool, run.k, run.others = run.draft.pool, run.draft.k, run.draft.others
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
