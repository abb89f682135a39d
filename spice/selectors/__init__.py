"""Signals and a count in, a selection out: no models, no files, no configuration here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np

    from spice.records import Selection, Signals


class Selector(Protocol):
    """What stands behind ``selector=``; ``needs`` names the signals that have to be computed."""

    needs: ClassVar[frozenset[str]]

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """Pick k of the ``eligible`` positions, best first."""
        ...
