"""How far the rows of a pool were trusted, and what a selection owes to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spice.data.row_table import ids_of, sources_of
from spice.gradients.agreement import effective_rows
from spice.records import Row, Selection
from spice.reporting.health import LONGEST
from spice.signals.reliability import judged

SHOWN = 20  # rows that are listed, the least trusted first


def examine(
    table: np.ndarray, rows: Sequence[Row], eligible: Sequence[int], selection: Selection
) -> dict[str, Any]:
    """What ``reliability.json`` holds.

    ``table`` n has :data:`spice.signals.reliability.FIELDS`.

    ``untrustworthy`` estimates the share of such rows in the pool and in each source, None where
    weights come from validation examples, which say nothing of that; ``effective_rows`` is
    (Σw²)²/Σw⁴; ``changed_by_weights`` counts picks that would be others had all rows been trusted
    alike.
    """
    where = np.array(eligible, dtype=np.int64)
    weights, changed = (
        table["weight"][where],
        len(set(selection.indices) - set(selection.without_weights or [])),
    )
    found = judged(table)
    by_consensus = bool(table["votes"].any())
    ids = ids_of(rows)
    order = np.lexsort(([ids[row] for row in where], found.net[where], weights))
    chosen = set(selection.indices)
    return {
        "rows": len(where),
        "untrustworthy": found.untrustworthy_share if by_consensus else None,
        "by_source": _by_source(table, rows, where) if by_consensus else None,
        "not_trusted": int(np.sum(~(weights > 0))),
        "effective_rows": effective_rows(weights),
        "median_weight": {
            "pool": float(np.median(weights)) if len(weights) else None,
            "picked": float(np.median(selection.weights)) if selection.weights else None,
        },
        "changed_by_weights": changed,
        "least_trusted": [
            _described(table[row], rows[row], row in chosen) for row in where[order][:SHOWN]
        ],
    }


def _by_source(
    table: np.ndarray, rows: Sequence[Row], where: np.ndarray
) -> dict[str, dict[str, float]]:
    """π of each source's judges, and the consensus of its median row."""
    found, sources = judged(table), np.array(sources_of(rows))
    facts = {}
    for source in np.unique(sources[where]).tolist():
        own = where[(sources[where] == source) & np.isfinite(found.net[where])]
        if len(own):
            facts[source] = {
                "rows": len(own),
                "untrustworthy": found.untrustworthy(table["group"][own[0]]),
                "median_consensus": float(np.median(found.net[own])),
            }
    return facts


def _described(facts: np.void, row: Row, picked: bool) -> dict[str, Any]:
    """One row: numbers that are not known (nobody votes on it) are None."""
    numbers = {name: float(facts[name]) for name in ("weight", "support", "opposition")}
    told = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
    texts = {"prompt": row.prompt[:LONGEST], "response": row.response[:LONGEST]}
    return {"id": row.id, "source": row.source, "picked": picked, **told, **texts}


def trust_line(facts: Mapping[str, Any]) -> str:
    """The report in one line."""
    share = facts["untrustworthy"]
    estimate = f"about {share:.0%} of the rows untrustworthy, " if share is not None else ""
    return (
        f"{estimate}{facts['not_trusted']:,} of {facts['rows']:,} weigh nothing, the others inform "
        f"as {facts['effective_rows']:,.0f} rows trusted alike would; weights changed "
        f"{facts['changed_by_weights']:,} picks"
    )
