"""When gradients are read and rows are chosen: what every ``schedule=`` does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.models.tokenized import Tokenized
    from spice.records import Selection, Signals
    from spice.selectors.base import Method
    from spice.signals.base import Signal
    from spice.submodular.kept_runs import KeptRuns


@dataclass(frozen=True)
class Request:
    """k of the n rows of a pool are asked for.

    ``signals`` are what was read off the proxy beforehand, ``tokenized`` the pool as the proxy
    reads it, None where nothing does. ``folder`` is where a learning proxy keeps what a kill must
    not cost, ``kept`` where greedy runs are kept, ``trainer`` holds arguments of Lightning's
    Trainer.
    """

    selector: Method
    signals: Signals
    k: int
    seed: int
    tokenized: Tokenized | None
    extraction: Extraction
    trainer: dict[str, Any]
    folder: Path
    kept: KeptRuns | None

    @property
    def eligible(self) -> Sequence[int]:
        """Positions of the rows with something to learn from; all where no model reads them."""
        if self.tokenized is None:
            return range(len(self.signals))
        return np.flatnonzero(self.signals.lengths).tolist()

    def proxy(self) -> Tokenized:
        """The pool as the proxy reads it, for schedules in which that proxy learns.

        Raises:
            ValueError: nothing reads the pool.
        """
        if self.tokenized is None:
            raise ValueError("a proxy that learns has to read the pool")
        return self.tokenized


class Schedule(ABC):
    """What stands behind ``schedule=``."""

    @abstractmethod
    def check(self, selector: Method, name: str) -> None:
        """Refuse a selector that cannot be asked this way; ``name`` is what the user calls it.

        Raises:
            InputError: so it is.
        """

    def needs(self, selector: Method) -> Mapping[str, Signal]:
        """The signals to be read before anything is chosen."""
        return selector.needs

    def fingerprint(self, extraction: Extraction) -> dict[str, Any] | None:
        """What decides a choice during which the proxy learns; None where it stays as it is."""
        return None

    def work(self, request: Request) -> list[Work]:
        """What choosing makes a learning proxy go over; nothing where it stays as it is."""
        return []

    @abstractmethod
    def choose(self, request: Request) -> Selection:
        """The selector's choice among the eligible rows."""
