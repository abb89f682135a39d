"""The greedy in two rounds, for pools that one greedy cannot hold.

    first    up to k picks from each part of the pool, by itself
    second   up to k picks from the union of these
    result   the second round's picks, or those of a part whose F is larger still

(Mirzasoleiman, Karbasi, Sarkar and Krause 2013; with the rows spread at random Barbosa, Ene, Nguyen
and Ward 2015, arXiv 1502.02606.) Both rounds are the method's own greedy, with its α, λ, ω and
rooms. :mod:`spice.submodular.certificate` has what is guaranteed. Of rows, the parts' runs and
nothing else come together, so parts can be gone through anywhere, in any order.

**Which picks are better** is told by F(S) = log det(I + α K_SS), whatever the rule they were made
by. A row's conflict depends on what was picked before it, so a sum of penalised scores tells orders
apart, not sets; F is one number per set, and the one that the guarantees are about; and each run
that is compared has been held to the penalty at every one of its picks. Weights and scales are in
the rows, so they are in F too.

**Early stopping** measures gains by the first pick's. A part stops by its own, which is no larger
than the pool's and so lets it give rather more. The union's first pick is the pool's, since a part
begins with its longest row; before a part's run is compared it is cut where that first pick says.
Else a part of short rows might win for no other reason than having more picks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.progress import counted
from spice.submodular.greedy import GreedyTrace, Rounds

if TYPE_CHECKING:
    from spice.submodular.objective import Objective
    from spice.submodular.partitions import Partition


@dataclass(frozen=True)
class Task:
    """The greedy that any group of the candidates can be given to; it can be sent elsewhere."""

    objective: Objective
    k: int
    penalty: float
    stopping: dict[str, Any]

    def __call__(self, where: np.ndarray) -> GreedyTrace:
        """Its run among candidates ``where`` (m) alone; picks are positions among all."""
        trace = self.objective.among(where).maximise(self.k, self.penalty, **self.stopping)
        return replace(trace, picks=where[trace.picks].tolist() if trace.picks else [])


def two_rounds(
    objective: Objective, partition: Partition, k: int, penalty: float, stopping: dict[str, Any]
) -> GreedyTrace:
    """Up to k picks by way of the ``partition``; ``stopping`` are ω and whether it includes."""
    # A part is gone through as the whole would be: in blocks, unless the whole is small too.
    alone = replace(objective, partition=None, maximizer=objective.way(k))
    task = Task(alone, k, penalty, stopping)
    rows = counted(list(partition.parts()), "greedy", "parts")
    parts = list(partition.each(task, rows))
    union = np.unique([pick for part in parts for pick in part.picks]).astype(np.int64)
    if not len(union):
        return GreedyTrace()
    second = task(union)
    first = second.gains[0] if second.gains else 0.0
    runs = [second, *(_cut(part, first, **stopping) for part in parts)]
    values = [_information(objective, run) for run in runs]
    best = int(np.argmax(values))
    sizes = np.bincount(partition.of, minlength=partition.count)
    told = Rounds(
        count=partition.count,
        largest_part=int(sizes.max()),
        union=len(union),
        of_union=values[0],
        of_best_part=max(values[1:]),
        taken="a part" if best else "the union",
        stopped=stopping["stop_ratio"] is not None,
    )
    return replace(
        runs[best],
        later=[],  # those of the union say nothing of the other rows
        complete=False,
        operations=None,
        rounds=told,
    )


def _cut(
    trace: GreedyTrace, first: float, stop_ratio: float | None, stop_inclusive: bool
) -> GreedyTrace:
    """A part's run as the pool's first gain would have ended it."""
    if stop_ratio is None:
        return trace
    return trace.stopped(stop_ratio, stop_inclusive, first)


def _information(objective: Objective, trace: GreedyTrace) -> float:
    """F(S), which the exact gains add up to."""
    if objective.form == "exact" or not trace.picks:
        return float(sum(trace.gains))
    return objective.information(trace.picks)
