"""Random subsets: uniform, or with a mix of sources that is kept or set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.selectors.mix import Mix
from spice.submodular.rooms import Rooms, told
from spice.values import component


@component
class RandomSubset(Mix, Selector):
    """Draw k rows without replacement, over rows sorted by id.

    So the same seed gives the same set whatever the order of the pool.
    """

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """k rows, or all where there are fewer."""
        rows = sorted(eligible, key=lambda row: signals.ids[row])
        rooms = self.rooms(signals.sources, rows, rows, k)
        drawn = self.uniform(rows, k, rng) if rooms is None else _stratified(rows, rooms, rng)
        return Selection(n=len(signals), indices=drawn, notes=told(rooms))

    @staticmethod
    def uniform(rows: Sequence[int], k: int, rng: np.random.Generator) -> list[int]:
        """k of some rows, or all where there are fewer."""
        return [int(row) for row in rng.permutation(np.array(rows, dtype=np.int64))[:k]]


def _stratified(rows: Sequence[int], rooms: Rooms, rng: np.random.Generator) -> list[int]:
    """As many rows of each source as it has room for, in an order of chance."""
    every = np.array(rows, dtype=np.int64)
    drawn = [
        rng.permutation(every[rooms.of == group])[:count]
        for group, count in enumerate(rooms.counts)
    ]
    return rng.permutation(np.concatenate(drawn)).tolist() if drawn else []
