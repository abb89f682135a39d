"""How many picks each group of candidates may have: a partition matroid, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rooms:
    """At most ``counts[g]`` picks come from group g of ``names``.

    ``of`` (n) is each candidate's group; ``notes`` say where the counts are not what was asked for.
    """

    names: Sequence[str]
    counts: np.ndarray
    of: np.ndarray
    notes: Sequence[str] = ()

    @property
    def total(self) -> int:
        """The most picks that there can be."""
        there = np.bincount(self.of, minlength=len(self.counts))
        return int(np.minimum(self.counts, there).sum())

    def among(self, where: np.ndarray) -> Rooms:
        """The same counts for candidates ``where`` (m) alone."""
        return Rooms(self.names, self.counts, self.of[where])

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return dict(zip(self.names, self.counts.tolist(), strict=True))


class Places:
    """What a run of up to k picks among n candidates has left: with ``rooms``, or without.

    ``free`` (n) are not picked yet; ``open`` (n) are those of them that may be picked, their group
    not being full. ``k`` is how many picks there can be at most.
    """

    def __init__(self, n: int, rooms: Rooms | None, k: int) -> None:
        self.rooms = rooms
        self.k = min(k, n if rooms is None else rooms.total)
        self.free = np.ones(n, dtype=bool)
        self.open = self.free if rooms is None else rooms.counts[rooms.of] > 0
        self.left = None if rooms is None else rooms.counts.copy()

    def take(self, pick: int) -> None:
        """One candidate is picked; where its group is full now, the others are none any more."""
        self.free[pick] = self.open[pick] = False
        if self.rooms is None or self.left is None:
            return
        group = self.rooms.of[pick]
        self.left[group] -= 1
        if not self.left[group]:
            self.open[self.rooms.of == group] = False

    def ahead(self, gains: np.ndarray) -> np.ndarray:
        """The k largest gains that one set can have together, of all that is free, falling.

        Full groups count with all their room: the best set is not bound to what was picked.
        """
        if self.rooms is not None:
            groups = self.rooms.of[self.free]
            order = np.lexsort((-gains, groups))
            groups = groups[order]
            rank = np.arange(len(order)) - np.searchsorted(groups, groups)
            gains = gains[order[rank < self.rooms.counts[groups]]]
        return largest(gains, self.k)

    def parts(self, k: int) -> Iterator[tuple[np.ndarray, int]]:
        """Masks of what is free, and how many of each :meth:`ahead` adds up after k picks."""
        if self.rooms is None:
            yield self.free, k
            return
        for group, count in enumerate(self.rooms.counts.tolist()):
            if count:
                yield self.free & (self.rooms.of == group), min(count, k)


def told(rooms: Rooms | None) -> list[str]:
    """What is to be said of the rooms, if there are any."""
    return list(rooms.notes) if rooms else []


def largest(values: np.ndarray, k: int) -> np.ndarray:
    """The k largest of ``values`` (n), in falling order; all if there are fewer."""
    kept = values if len(values) <= k else -np.partition(-values, k)[:k]
    return -np.sort(-kept)


def largest_places(values: np.ndarray, count: int) -> np.ndarray:
    """Positions of the ``count`` largest of ``values`` (n), the largest first.

    Of fewer values all positions are given.
    """
    if len(values) > count:
        found = np.argpartition(-values, count)[:count]
    else:
        found = np.arange(len(values))
    return found[np.argsort(-values[found], kind="stable")]
