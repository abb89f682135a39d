"""The mix of a selection: how many of its rows may come from each source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from spice.errors import InputError, did_you_mean
from spice.records import Signals
from spice.selectors.ranking import top


@dataclass(frozen=True)
class Rooms:
    """How many of each group of candidates may be picked: a partition matroid.

    ``groups`` n numbers the group of each candidate, ``counts`` is each group's room.
    """

    groups: np.ndarray
    counts: np.ndarray

    @property
    def total(self) -> int:
        """How many may be picked in all."""
        return int(self.counts.sum())

    def foremost(self, gains: np.ndarray, left: np.ndarray) -> np.ndarray:
        """The largest ``gains`` (n) that a set within the rooms can have of those ``left`` (n)."""
        found = []
        for group, room in enumerate(self.counts):
            own = np.sort(gains[left & (self.groups == group)])
            found.append(own[::-1][:room])
        return -np.sort(-np.concatenate(found)) if found else np.empty(0)


@dataclass
class Vacancies:
    """What is left of the rooms as picks are made; without rooms nothing ever fills up."""

    rooms: Rooms | None

    def __post_init__(self) -> None:
        self.left = None if self.rooms is None else self.rooms.counts.copy()

    def take(self, pick: int, free: np.ndarray) -> None:
        """Take a place; were it its group's last, none of the group is ``free`` (n) any more."""
        free[pick] = False
        if self.rooms is None or self.left is None:
            return
        group = self.rooms.groups[pick]
        self.left[group] -= 1
        if not self.left[group]:
            free[self.rooms.groups == group] = False

    def close(self, free: np.ndarray) -> None:
        """None of a group without room is ``free`` (n) from the start."""
        if self.rooms is not None:
            free[self.rooms.counts[self.rooms.groups] == 0] = False


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What every selector that picks from a ranking or a greedy can be asked for.

    ``stratify`` ``source`` gives each source its share of the eligible rows; ``quotas`` names
    shares of k by source, and sources that are not named share what they leave in proportion to
    their rows. All by largest remainders. A source with too few rows passes its share on.
    """

    stratify: str | None
    quotas: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.stratify not in {None, "source"}:
            raise InputError(f"selector.stratify={self.stratify}: must be null or source")
        if self.stratify and self.quotas:
            raise InputError("selector.stratify and selector.quotas: give one of them")
        for source, share in self.quotas.items():
            number = isinstance(share, Real) and not isinstance(share, bool)
            if not number or not math.isfinite(share) or share < 0:
                raise InputError(f"selector.quotas.{source}={share}: must be at least 0")
        if (total := sum(self.quotas.values())) > 1 + 1e-9:
            raise InputError(f"selector.quotas: the shares add up to {total:g}, more than 1")

    @property
    def mixed(self) -> bool:
        """Whether sources matter."""
        return bool(self.stratify or self.quotas)

    def rooms(self, sources: Sequence[str], k: int) -> tuple[Rooms | None, list[str]]:
        """The rooms of n candidates by their ``sources``, and what was passed on.

        Raises:
            InputError: a quota for a source that no candidate is of, or nothing but zeros.
        """
        if not self.mixed:
            return None, []
        sizes = dict(sorted(Counter(sources).items()))
        if unknown := sorted(set(self.quotas) - set(sizes)):
            hint = did_you_mean(unknown[0], sizes)
            raise InputError(
                f"selector.quotas.{unknown[0]}: the pool has no such source.{hint} "
                f"It has {', '.join(sizes)}"
            )
        counts, notes = share_out(self._shares(sizes), sizes, min(k, len(sources)))
        names = {name: number for number, name in enumerate(sizes)}
        groups = np.array([names[source] for source in sources], dtype=np.int64)
        return Rooms(groups, np.array([counts[name] for name in sizes], dtype=np.int64)), notes

    def _shares(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """Each source's share of k, in any unit."""
        if self.stratify:
            return dict(sizes)
        others = {name: size for name, size in sizes.items() if name not in self.quotas}
        if not others or not (rest := max(1.0 - sum(self.quotas.values()), 0.0)):
            if not any(self.quotas.values()):
                raise InputError("selector.quotas: at least one share must be above 0")
            return {name: float(self.quotas.get(name, 0.0)) for name in sizes}
        spread = {name: rest * size / sum(others.values()) for name, size in others.items()}
        return {name: float(self.quotas.get(name, spread.get(name, 0.0))) for name in sizes}

    def best(
        self, scores: np.ndarray, signals: Signals, rows: np.ndarray, k: int
    ) -> tuple[list[int], list[str]]:
        """The k rows of the highest scores that the rooms admit, best first, and what to tell.

        Ties go to the smaller id.
        """
        order = top(scores, signals.ids, rows, len(rows))
        rooms, notes = self.rooms([signals.sources[row] for row in order], k)
        if rooms is None:
            return order[:k], notes
        left, picks = rooms.counts.copy(), []
        for row, group in zip(order, rooms.groups, strict=True):
            if left[group]:
                left[group] -= 1
                picks.append(row)
        return picks, notes


def share_out(
    shares: Mapping[str, float], sizes: Mapping[str, int], k: int
) -> tuple[dict[str, int], list[str]]:
    """Split k by ``shares``, no part above its size; parts that are full pass the rest on.

    What is left over once all that have a share are full goes to the others by their sizes.
    """
    counts, notes = dict.fromkeys(sizes, 0), []
    while (rest := k - sum(counts.values())) > 0:
        open_ = {name: shares[name] for name in sizes if counts[name] < sizes[name]}
        if not any(open_.values()):
            open_ = {name: float(sizes[name]) for name in open_}
        for name, more in quotas(open_, rest).items():
            counts[name] += more
        for name in open_:
            if (over := counts[name] - sizes[name]) > 0:
                counts[name] = sizes[name]
                notes.append(
                    f"{name} has only {sizes[name]:,} rows to choose from: "
                    f"{over:,} of its share passed on to the other sources"
                )
    return counts, notes


def quotas(sizes: Mapping[str, float], k: int) -> dict[str, int]:
    """Split k in proportion to ``sizes`` by largest remainders; the sum is k exactly.

    Equal remainders go to the name that sorts first.
    """
    total = sum(sizes.values())
    # Whole numbers are divided exactly; shares may be off by their own rounding.
    exact = {name: divmod(k * size, total) for name, size in sizes.items()}
    counts = {name: int(whole) for name, (whole, _) in exact.items()}
    by_remainder = sorted(sizes, key=lambda name: (-round(exact[name][1] / total, 9), name))
    for name in by_remainder[: k - sum(counts.values())]:
        counts[name] += 1
    return counts
