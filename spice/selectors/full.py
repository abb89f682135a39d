"""The whole pool: what every selection has to be measured against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.values import component


@component
class Full(Selector):
    """Take every eligible row, in the pool's order; the budget does not apply."""

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """All of them."""
        return Selection(n=len(signals), indices=sorted(int(row) for row in eligible))
