"""Which row is which: ids that exact copies share but for a suffix, and samples by id."""

from __future__ import annotations

import dataclasses
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter

from spice.records import Row


def identify(rows: Iterable[Row]) -> list[Row]:
    """Give each row its id; a second, third … exact copy gets the suffix ``#2``, ``#3`` …."""
    return list(numbered(rows))


def numbered(rows: Iterable[Row]) -> Iterator[Row]:
    """The same, one row after another."""
    seen: Counter[str] = Counter()
    for row in rows:
        key = row.text_id()
        seen[key] += 1
        copy = f"{key}#{seen[key]}" if seen[key] > 1 else key
        yield dataclasses.replace(row, id=copy)


def limited(rows: Iterable[Row], limit: int | None) -> Iterator[Row]:
    """The rows with the smallest ids in the order in which they came; no others are kept."""
    if limit is None:
        yield from rows
        return
    smallest = heapq.nsmallest(limit, enumerate(rows), key=lambda entry: entry[1].id)
    yield from (row for _, row in sorted(smallest, key=itemgetter(0)))
