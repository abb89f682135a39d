"""No rows at all: the untuned model, which every selection has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from spice.records import Selection, Signals


@dataclass(frozen=True)
class Nothing:
    """Choose nothing; the budget does not apply, and the model is scored as it is."""

    needs: ClassVar[Mapping[str, Any]] = {}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """No rows."""
        return Selection(n=len(signals), indices=[])
