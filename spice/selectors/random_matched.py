"""The fair control: a uniform draw with the sources and response lengths of a given selection.

What a greedy picks differs from a uniform draw in more than information: in which sources it comes
from, and in how long its answers are. A draw that copies both shows what they are worth alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from spice.errors import InputError
from spice.records import Selection, Signals, chosen_ids
from spice.selectors.base import Selector
from spice.selectors.mix import largest_remainders
from spice.values import Count, FilePath, component


@component
class RandomMatched(Selector):
    """Draw k rows in the strata's shares of the selection in ``like``, a run folder.

    A stratum is a source and one of ``bins`` equal parts of that source's rows, ranked by the
    supervised tokens of their responses.

    Raises:
        InputError: ``like`` holds no selection.
    """

    like: FilePath
    bins: Count

    def __post_init__(self) -> None:
        _ = self.given

    @property
    def reads_pool(self) -> bool:
        """For the lengths of its rows."""
        return True

    @cached_property
    def given(self) -> list[str]:
        """The ids of the selection that is copied.

        Raises:
            InputError: ``like`` holds no selection.
        """
        return chosen_ids(self.like, f"selector.like={self.like}")

    def fingerprint(self) -> dict[str, Any]:
        """What is copied, not where it lies."""
        return {"like": self.given}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """k rows, or as many as the given selection has.

        Raises:
            InputError: the budget asks for more rows than the given selection has.
        """
        if k > len(self.given):
            raise InputError(
                f"selector.like={self.like}: that selection has {len(self.given)} rows, "
                f"the budget asks for {k}"
            )
        rows = sorted(eligible, key=lambda row: signals.ids[row])
        strata = self._strata(signals, rows)
        stratum_of = {signals.ids[row]: name for name, rows in strata.items() for row in rows}
        if strangers := [row_id for row_id in self.given if row_id not in stratum_of]:
            raise InputError(
                f"selector.like={self.like}: {len(strangers)} of its rows are not in this pool, "
                f"the first is {strangers[0]}"
            )
        counts = largest_remainders(Counter(stratum_of[row_id] for row_id in self.given), k)
        drawn = [rng.permutation(strata[name])[: counts[name]] for name in sorted(counts)]
        order = rng.permutation(np.concatenate(drawn)) if drawn else np.empty(0, dtype=np.int64)
        return Selection(n=len(signals), indices=[int(row) for row in order])

    def _strata(self, signals: Signals, rows: Sequence[int]) -> Mapping[str, list[int]]:
        """Rows by source and by their rank in length within it; equal lengths stay together."""
        strata: dict[str, list[int]] = {}
        for source in sorted({signals.sources[row] for row in rows}):
            members = [row for row in rows if signals.sources[row] == source]
            lengths = signals.lengths[members]
            edges = np.quantile(lengths, np.arange(1, self.bins) / self.bins)
            for row, place in zip(members, np.searchsorted(edges, lengths), strict=True):
                strata.setdefault(f"{source}, class {place}", []).append(row)
        return strata
