"""The whole pool: what every selection has to be measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spice.records import Selection, Signals


@dataclass(frozen=True)
class Full:
    """Take every eligible row, in the pool's order; the budget does not apply."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """All of them."""
        return Selection(n=len(signals), indices=sorted(int(row) for row in eligible))
