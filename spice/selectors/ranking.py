"""Choosing by one score per row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spice.submodular.rooms import Places, Rooms


def top(
    scores: np.ndarray, ids: Sequence[str], rows: np.ndarray, k: int, rooms: Rooms | None = None
) -> list[int]:
    """The k rows with the highest scores, best first; ties go to the smaller id.

    ``scores`` n are the pool's, ``rows`` m those that may be picked. ``rooms`` are for the places
    of ``rows``: each group gives its best, up to its room.
    """
    places = Places(len(rows), rooms, k)
    picks: list[int] = []
    names = [ids[int(row)] for row in rows]
    for i in sorted(range(len(rows)), key=lambda i: (-scores[rows[i]], names[i])):
        if len(picks) == places.k:
            break
        if places.open[i]:
            places.take(i)
            picks.append(int(rows[i]))
    return picks
