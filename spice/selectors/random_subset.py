"""Random subsets: uniform, or stratified so that each source keeps its share of the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from spice.errors import InputError
from spice.records import Selection, Signals


@dataclass(frozen=True)
class RandomSubset:
    """Draw k rows without replacement, over rows sorted by id.

    So the same seed gives the same set whatever the order of the pool. ``stratify`` ``null`` draws
    uniformly; ``source`` gives each source its share of k by largest remainders.
    """

    stratify: str | None
    needs: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        if self.stratify not in {None, "source"}:
            raise InputError(f"selector.stratify={self.stratify}: must be null or source")

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """k rows, or all where there are fewer."""
        rows = sorted(eligible, key=lambda row: signals.ids[row])
        if self.stratify is None:
            return Selection(n=len(signals), indices=self.uniform(rows, k, rng))
        drawn = self._stratified(signals, rows, min(k, len(rows)), rng)
        return Selection(n=len(signals), indices=[int(row) for row in drawn])

    @staticmethod
    def uniform(rows: Sequence[int], k: int, rng: np.random.Generator) -> list[int]:
        """k of some rows, or all where there are fewer."""
        return [int(row) for row in rng.permutation(np.array(rows, dtype=np.int64))[:k]]

    @staticmethod
    def _stratified(
        signals: Signals, rows: Sequence[int], k: int, rng: np.random.Generator
    ) -> np.ndarray:
        strata: dict[str, list[int]] = {}
        for row in rows:
            strata.setdefault(signals.sources[row], []).append(row)
        counts = quotas({name: len(members) for name, members in strata.items()}, k)
        drawn = [rng.permutation(strata[name])[: counts[name]] for name in sorted(strata)]
        return rng.permutation(np.concatenate(drawn)) if drawn else np.empty(0, dtype=np.int64)


def quotas(sizes: Mapping[str, int], k: int) -> dict[str, int]:
    """Split k in proportion to ``sizes`` by largest remainders; the sum is k exactly.

    Equal remainders go to the name that sorts first.
    """
    total = sum(sizes.values())
    shares = {name: divmod(k * size, total) for name, size in sizes.items()}  # exact, in integers
    counts = {name: whole for name, (whole, _) in shares.items()}
    by_remainder = sorted(sizes, key=lambda name: (-shares[name][1], name))
    for name in by_remainder[: k - sum(counts.values())]:
        counts[name] += 1
    return counts
