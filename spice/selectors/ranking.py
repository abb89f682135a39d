"""Choosing by one score per row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def top(scores: np.ndarray, ids: Sequence[str], rows: np.ndarray, k: int) -> list[int]:
    """The k rows with the highest scores, best first; ties go to the smaller id."""
    in_order = sorted((int(row) for row in rows), key=lambda row: (-scores[row], ids[row]))
    return in_order[:k]
