"""What a selection is made of, told from the truth that no selector sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spice.records import Row
from spice.sandbox.pool import Truth


def truth_report(
    rows: Sequence[Row], selected_ids: Iterable[str], truths: Mapping[str, Truth]
) -> dict[str, Any]:
    """Shares of each kind, source, skill and difficulty in a selection beside the pool's.

    ``{"n", "k", "kind": {value: {"pool", "selection"}}, "source": …, "skill": …, "difficulty": …,
    "groups": {"pool", "selection", "duplicated"}}``: ``groups`` counts near-duplicate groups, and
    of the selected ones those from which more than one row was taken.

    Raises:
        ValueError: a selected id is not in the pool.
    """
    sources = {row.id: row.source for row in rows}
    selected = list(selected_ids)
    if strangers := [row_id for row_id in selected if row_id not in sources]:
        raise ValueError(f"{len(strangers)} selected ids are not in the pool: {strangers[:3]}")
    aspects = {
        "kind": {row_id: truths[row_id].kind for row_id in sources},
        "source": sources,
        "skill": {row_id: truths[row_id].skill or "none" for row_id in sources},
        "difficulty": {row_id: str(truths[row_id].difficulty) for row_id in sources},
    }
    groups = Counter(truths[row_id].group for row_id in selected)
    return {
        "n": len(rows),
        "k": len(selected),
        **{name: _shares(values, selected) for name, values in aspects.items()},
        "groups": {
            "pool": len({truths[row_id].group for row_id in sources}),
            "selection": len(groups),
            "duplicated": sum(count > 1 for count in groups.values()),
        },
    }


def _shares(values: Mapping[str, str], selected: Sequence[str]) -> dict[str, dict[str, float]]:
    pool = Counter(values.values())
    chosen = Counter(values[row_id] for row_id in selected)
    return {
        value: {
            "pool": pool[value] / len(values),
            "selection": chosen[value] / len(selected) if selected else 0.0,
        }
        for value in sorted(pool)
    }
