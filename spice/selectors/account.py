"""What is told of a greedy run: its picks, and what diagnostics want to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from spice.records import Selection
from spice.submodular.greedy import GreedyTrace
from spice.submodular.kernel import Rows, inner_products, known_products, row_blocks
from spice.submodular.objective import Objective
from spice.submodular.rooms import told

WITNESSES = 1000  # candidates that stand for all where the share of conflicting ones is told


def account(
    trace: GreedyTrace,
    plain: GreedyTrace,
    objective: Objective,
    rows: np.ndarray,
    n: int,
    penalty: float,
) -> Selection:
    """A run with the ``penalty`` λ as a selection out of n rows.

    ``plain`` is the run with λ = 0, ``rows`` (m) are the candidates' positions in the pool.
    """
    bases = objective.bases()[trace.picks] if trace.picks else np.empty(0)
    gains = np.array(trace.gains)
    exact = objective.form == "exact"
    return Selection(
        n=n,
        indices=[int(rows[pick]) for pick in trace.picks],
        scores=trace.scores,
        gains=trace.gains,
        conflicts=trace.conflicts,
        bases=bases.tolist(),
        epsilons=np.minimum(gains - bases, 0.0).tolist(),
        information=float(gains.sum()) if exact else objective.information(trace.picks),
        alpha=objective.alpha,
        penalty=float(penalty),
        certificate=objective.certificate(trace, penalty),
        without_penalty=[int(rows[pick]) for pick in plain.picks] if penalty else None,
        partitions=asdict(trace.rounds) if trace.rounds else {"count": 1},
        notes=told(objective.rooms),
        trace={
            "conflicting": conflicting_shares(objective.gradients, trace.picks),
            "leverage": trace.leverage,
            "rows": rows,
            "squared_norms": objective.squares,
            "pool_conflict": share_against_mean(objective.gradients),
            "changed_by_penalty": len(set(trace.picks) - set(plain.picks)),
        },
    )


def share_against_mean(gradients: Rows) -> float:
    """The share of n × d gradients with g · ḡ < 0."""
    if (known := known_products(gradients)) is not None:
        return float(np.sum(known.sum(axis=1) < 0) / max(len(known), 1))
    blocks, total = row_blocks(gradients), np.zeros(gradients.shape[1])
    for rows in blocks:
        part = gradients[rows]
        total += np.ones(len(part), part.dtype) @ part
    mean = (total / max(len(gradients), 1)).astype(gradients.dtype)
    against = sum(int(np.sum(gradients[rows] @ mean < 0)) for rows in blocks)
    return against / max(len(gradients), 1)


def conflicting_shares(gradients: Rows, picks: Sequence[int]) -> list[float]:
    """The share of candidates with c > 0 at each of k picks but the first: k − 1 numbers.

    The candidates are n × d ``gradients``; some of them speak for all.
    """
    n, m = len(gradients), len(picks)
    asked = np.unique(np.linspace(0, n - 1, min(n, WITNESSES)).astype(np.int64))
    along = np.cumsum(inner_products(gradients, asked, np.array(picks, dtype=np.int64)), axis=1)
    place = {pick: t for t, pick in enumerate(picks)}
    picked_at = np.array([place.get(int(x), m) for x in asked])
    free = picked_at[:, None] > np.arange(m)[None]  # still a candidate after t + 1 picks
    candidates = np.maximum(free.sum(axis=0), 1)
    return (((along < 0) & free).sum(axis=0) / candidates)[:-1].tolist()
