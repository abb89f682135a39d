"""The whole pool: what every selection has to be measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from spice.records import Selection, Signals


@dataclass(frozen=True)
class Full:
    """Take every eligible row, in the pool's order; the budget does not apply."""

    needs: ClassVar[Mapping[str, Any]] = {}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """All of them."""
        return Selection(n=len(signals), indices=sorted(int(row) for row in eligible))
