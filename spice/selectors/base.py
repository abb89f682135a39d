"""Signals and a count in, a selection out: no models, no files, no configuration here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from spice.records import Selection, Signals
    from spice.signals.base import Signal


class Selector(Protocol):
    """What stands behind ``selector=``."""

    @property
    def needs(self) -> Mapping[str, Signal | None]:
        """The fields of :class:`spice.records.Signals` that have to be read off the proxy.

        ``gradients`` and ``lengths`` have no signal of their own: the configuration and the
        renderer say what they are. A selector that needs nothing loads nothing.
        """
        ...

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """Pick k of the ``eligible`` positions, best first."""
        ...
