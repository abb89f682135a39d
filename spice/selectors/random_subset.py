"""Random subsets: uniform, or stratified so that each source keeps its share of the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from spice.records import Selection, Signals
from spice.selectors.mix import Mix


@dataclass(frozen=True)
class RandomSubset(Mix):
    """Draw k rows without replacement, over rows sorted by id.

    So the same seed gives the same set whatever the order of the pool.
    """

    needs: ClassVar[Mapping[str, Any]] = {}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """k rows, or all where there are fewer."""
        rows = sorted(eligible, key=lambda row: signals.ids[row])
        if not self.mixed:
            return Selection(n=len(signals), indices=self.uniform(rows, k, rng))
        sources = [signals.sources[row] for row in rows]
        rooms, notes = self.rooms(sources, k)
        assert rooms is not None
        members = [np.array(rows)[rooms.groups == group] for group in range(len(rooms.counts))]
        drawn = [
            rng.permutation(own)[:room] for own, room in zip(members, rooms.counts, strict=True)
        ]
        order = rng.permutation(np.concatenate([np.empty(0, dtype=np.int64), *drawn]))
        return Selection(n=len(signals), indices=[int(row) for row in order], notes=notes)

    @staticmethod
    def uniform(rows: Sequence[int], k: int, rng: np.random.Generator) -> list[int]:
        """k of some rows, or all where there are fewer."""
        return [int(row) for row in rng.permutation(np.array(rows, dtype=np.int64))[:k]]
