"""What the selector needs to have read off the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from spice.messages import say
from spice.pipeline.steps.base import Step
from spice.pipeline.steps.selection import Select
from spice.storage.stages import digest

if TYPE_CHECKING:
    from spice.pipeline.plan.planned import Planned
    from spice.pipeline.plan.planner import Planner
    from spice.pipeline.run import Run


class ReadSignals(Step):
    """Sets ``signals``; a selection that is there already needs none of them.

    A run that ends here (``until=signals``) reads them all the same, for others.
    """

    name = "signals"

    def execute(self, run: Run) -> None:
        """Read each signal, or find it."""
        if run.keyed is None:
            return
        if _wanted(run):
            run.signals = run.keyed.read()
            return
        for name, key in run.keyed.keys.items():
            run.ledger.note(name, digest(key), True, run.paid(run.stages.folder(name, key)))
            say(name, f"key {digest(key)}, reused with the selection")

    def plan(self, run: Run, planner: Planner) -> Iterator[Planned]:
        """Those that are there, and those that a selection still to be made lacks."""
        wanted = _wanted(run)
        for name, key in run.keyed.keys.items() if run.keyed else ():
            if run.stages.has(name, key):
                yield planner.there(name, key)
            elif wanted:
                yield planner.signal(name, key)


def _wanted(run: Run) -> bool:
    return run.until == ReadSignals.name or not run.stages.has(Select.name, Select().key(run))
