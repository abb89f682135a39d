"""What a step is: it reads what those before it made, and adds to the run what it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from spice.pipeline.plan.planned import Planned
    from spice.pipeline.plan.planner import Planner
    from spice.pipeline.run import Run
    from spice.storage.stages import Done


class Step(ABC):
    """One step of a run; ``name`` is what its seconds, key and messages go by."""

    name: ClassVar[str]

    @abstractmethod
    def execute(self, run: Run) -> None:
        """Do it, or find that it was done."""

    def plan(self, run: Run, planner: Planner) -> Iterator[Planned]:
        """What doing it would take; nothing for what takes no time to speak of."""
        yield from ()


class KeyedStep(Step):
    """A step whose product is kept in the cache under the hash of all that decides it."""

    @abstractmethod
    def key(self, run: Run) -> dict[str, Any] | None:
        """What decides the product; None if there is nothing to do."""

    @abstractmethod
    def build(self, run: Run, folder: Path) -> None:
        """Make the product in ``folder``; what an interrupted run left there is gone on from."""

    @abstractmethod
    def load(self, run: Run, done: Done) -> None:
        """Take the finished product into the run and its folder."""

    def execute(self, run: Run) -> None:
        """Find the product in the cache, or build it; then load it."""
        key = self.key(run)
        if key is not None:
            self.load(run, run.stage(self.name, key, lambda folder: self.build(run, folder)))
