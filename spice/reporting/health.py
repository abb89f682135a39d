"""The health of a pool's gradients: rows that say nothing, rows that say too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spice.data.row_table import ids_of
from spice.records import Row
from spice.submodular.kernel import Rows, Subset, squared_norms

WHISKER = 1.5  # distances between the quartiles above the third, a box plot's upper whisker
SHOWN = 20  # outliers that are listed, the largest first
LONGEST = 200  # characters of a text that are shown


def examine(
    gradients: Rows,
    rows: Sequence[Row],
    eligible: Sequence[int],
    picks: Sequence[int],
    choose: Callable[[Sequence[int]], list[int]],
) -> dict[str, Any]:
    """What is wrong with the gradients n × d, and what a selection owes to it.

    A row is an outlier if ‖g‖ lies beyond a box plot's upper whisker (Tukey 1977). ``choose`` makes
    the selection anew from the rows that it is given: ``without_outliers`` tells the share of the
    picks which then are others than ``picks``.
    """
    where, ids = np.array(eligible, dtype=np.int64), ids_of(rows)
    squares = squared_norms(Subset(gradients, where))
    usable = np.isfinite(squares) & (squares > 0)
    norms = np.sqrt(squares[usable])
    limit = norm_limit(norms)
    large = where[usable][norms > limit]
    sizes = dict(zip(where[usable].tolist(), norms.tolist(), strict=True))
    chosen = set(picks)
    listed = sorted(large.tolist(), key=lambda row: (-sizes[row], ids[row]))
    return {
        "rows": len(where),
        "zero": [ids[i] for i in where[squares == 0]],
        "not_finite": [ids[i] for i in where[~np.isfinite(squares)]],
        "median_norm": float(np.median(norms)) if len(norms) else None,
        "outlier_limit": limit if len(norms) else None,
        "outliers": len(large),
        "outliers_picked": sum(int(row) in chosen for row in large),
        "largest": [_described(rows[row], sizes[row], row in chosen) for row in listed[:SHOWN]],
        "without_outliers": _without(where, large, picks, choose) if len(large) else None,
    }


def norm_limit(norms: np.ndarray) -> float:
    """The length above which a norm is an outlier's; ``norms`` n."""
    if not len(norms):
        return np.inf
    low, high = np.quantile(norms, [0.25, 0.75])
    return float(high + WHISKER * (high - low))


def _without(
    eligible: np.ndarray,
    outliers: np.ndarray,
    picks: Sequence[int],
    choose: Callable[[Sequence[int]], list[int]],
) -> dict[str, Any]:
    others = choose(np.setdiff1d(eligible, outliers).tolist())
    new = set(others) - set(picks)
    return {"k": len(others), "new_picks": len(new), "share": len(new) / max(len(others), 1)}


def _described(row: Row, norm: float, picked: bool) -> dict[str, Any]:
    texts = {"prompt": row.prompt[:LONGEST], "response": row.response[:LONGEST]}
    return {"id": row.id, "source": row.source, "norm": norm, "picked": picked, **texts}


def health_line(facts: dict[str, Any]) -> str:
    """The report in one line."""
    bad = f"{len(facts['zero'])} zero, {len(facts['not_finite'])} not finite"
    line = f"{bad}, {facts['outliers']} outliers of {facts['rows']:,} rows"
    if not facts["outliers"]:
        return line
    above = facts["outlier_limit"] / facts["median_norm"]
    others = facts["without_outliers"]["share"]
    return (
        f"{line} (norm above {above:.1f} × the median), {facts['outliers_picked']} of them picked; "
        f"without them {others:.0%} of the picks would be others"
    )
