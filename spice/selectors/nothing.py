"""No rows at all: the untuned model, which every selection has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.values import component


@component
class Nothing(Selector):
    """Choose nothing; the budget does not apply, and the model is scored as it is."""

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """No rows."""
        return Selection(n=len(signals), indices=[])
