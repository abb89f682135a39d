"""When gradients are read: once for the whole pool, or window by window while the proxy learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spice.errors import InputError
from spice.records import Selection
from spice.selectors.mix import largest_remainders


@dataclass(frozen=True)
class Global:
    """``schedule=global``: one selection over the whole pool, the proxy staying as it is."""

    windowed: ClassVar[bool] = False


@dataclass(frozen=True)
class Pools:
    """``schedule=pools``: the published way (arXiv 2601.23155, section 4).

    The rows, shuffled by the run's seed, are cut into windows of ``pool_size``; each gives its
    share of the budget, chosen on its own. Every ``refresh_every`` windows the proxy takes one
    step of AdamW on what they gave, at ``learning_rate`` and ``weight_decay``, unless
    ``train_proxy`` is off. What has been chosen is forgotten from one window to the next.
    """

    pool_size: int
    refresh_every: int
    train_proxy: bool
    learning_rate: float
    weight_decay: float
    windowed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("pool_size", "refresh_every"):
            if getattr(self, name) < 1:
                raise InputError(f"schedule.{name}={getattr(self, name)}: must be at least 1")
        if not self.learning_rate > 0:
            raise InputError(f"schedule.learning_rate={self.learning_rate}: must be above 0")
        if not self.weight_decay >= 0:
            raise InputError(f"schedule.weight_decay={self.weight_decay}: must be at least 0")

    def windows(self, ids: Sequence[str], eligible: Sequence[int], seed: int) -> list[list[int]]:
        """The rows of each window; the last may be smaller.

        Rows are shuffled in the order of their ids, so the order of the pool changes nothing.
        """
        rows = np.array(sorted(eligible, key=lambda row: ids[row]), dtype=np.int64)
        shuffled = np.random.default_rng(seed).permutation(rows).tolist()
        return [shuffled[i : i + self.pool_size] for i in range(0, len(shuffled), self.pool_size)]


def shares(windows: Sequence[Sequence[int]], k: int) -> list[int]:
    """How many of k each window gives: in proportion to its rows, by largest remainders.

    813 windows of 120 and a last one of 60 rows give 12 each and 6: 9,750 of 97,500.
    """
    sizes = {f"{number:09}": len(window) for number, window in enumerate(windows)}
    return list(largest_remainders(sizes, min(k, sum(sizes.values()))).values())


def joined(parts: Sequence[tuple[Sequence[int], Selection]], n: int) -> Selection:
    """One selection from those of the windows, each with its rows' positions in the pool.

    ``information`` is the sum of the windows' own: what they share is not accounted for.
    """

    def chain(name: str) -> list[float]:
        return [value for _, part in parts for value in getattr(part, name)]

    def trace(name: str) -> list[float]:
        return [value for _, part in parts for value in part.trace[name]]

    excluded: dict[str, list[int]] = {}
    for rows, part in parts:
        for why, which in part.excluded.items():
            excluded.setdefault(why, []).extend(rows[i] for i in which)
    weights = [len(part.trace["rows"]) for _, part in parts]
    conflict = [weight * part.trace["pool_conflict"]
                for weight, (_, part) in zip(weights, parts, strict=True)]  # fmt: skip
    return Selection(
        n=n,
        indices=[rows[i] for rows, part in parts for i in part.indices],
        scores=chain("scores"),
        gains=chain("gains"),
        conflicts=chain("conflicts"),
        bases=chain("bases"),
        epsilons=chain("epsilons"),
        information=sum(part.information or 0.0 for _, part in parts),
        without_penalty=None
        if any(part.without_penalty is None for _, part in parts)
        else [rows[i] for rows, part in parts for i in part.without_penalty or []],
        alpha=float(np.mean([part.alpha for _, part in parts])) if parts else None,
        excluded={why: sorted(which) for why, which in excluded.items()},
        trace={
            "conflicting": trace("conflicting"),
            "leverage": trace("leverage"),
            "rows": np.array([rows[i] for rows, part in parts for i in part.trace["rows"]]),
            "squared_norms": np.array(trace("squared_norms")),
            "changed_by_penalty": sum(part.trace["changed_by_penalty"] for _, part in parts),
            "pool_conflict": sum(conflict) / max(sum(weights), 1),
        },
    )
