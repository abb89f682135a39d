"""What a pool's records hold that nobody reads: counted, judged, and told with the way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from spice.data.layouts import Found
from spice.records import Row

SHOWN = 10  # sources that are told of one by one
#: names of what is kept about a row, be it in words
LABELS = {
    "category", "created", "created_at", "dataset", "date", "info", "license", "meta", "metadata",
    "name", "source", "split", "subset", "task", "task_name", "timestamp", "topic", "type", "url",
}  # fmt: skip
#: names of what says how a row is to be learnt, be it a number
ORDERS = {"weight", "weights", "train", "loss", "loss_weight", "mask", "loss_mask"}
REASONING = {
    "chain_of_thought", "cot", "explanation", "rationale", "reasoning", "reasoning_content",
    "thinking", "thought", "thoughts",
}  # fmt: skip


@dataclass(frozen=True)
class Unread:
    """A column, or a key of turns, that holds something in ``rows`` rows of a source, all unread.

    A ``label`` (an id, a number, a single word) says something of the row, and is no part of it;
    ``remedy`` is how all else can be read.
    """

    source: str
    column: str
    rows: int
    label: bool
    remedy: str | None


class Unreads:
    """Counts, row by row."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], int] = {}
        self._values: dict[tuple[str, str], Any] = {}  # the first that is no label
        self._filled: set[tuple[str, str]] = set()  # sources and the fields that they have
        self._talks: set[str] = set()  # sources with turns

    def add(self, found: Found) -> None:
        """Count what one record holds beside its row."""
        source = found.row.source
        self._filled |= {(source, name) for name in ("input", "system") if getattr(found.row, name)}
        if found.roles is not None:
            self._talks.add(source)
        for column, value in found.unread.items():
            at = source, column
            self._rows[at] = self._rows.get(at, 0) + 1
            if at not in self._values and not _is_label(column, value, found.row):
                self._values[at] = value

    def listed(self) -> list[Unread]:
        """Each column of each source, in the order in which they were met."""
        return [
            Unread(source, column, rows, at not in self._values, self._remedy(at))
            for at, rows in self._rows.items()
            for source, column in [at]
        ]

    def _remedy(self, at: tuple[str, str]) -> str | None:
        if at not in self._values:
            return None
        source, column = at
        name = column.rpartition(".")[2]
        if name in ORDERS:
            return "what is learnt is said by a turn's weight of 0 or 1"
        if name in REASONING:
            return "write it into the answer's text if it is to be learnt"
        if "[]" in column or not isinstance(self._values[at], str):
            return "it is not read as it is: write it into a text that is"
        names = ("system",) if source in self._talks else ("input", "system")
        free = next((name for name in names if (source, name) not in self._filled), None)
        if free is None:
            return "it is not read as it is: write it into a text that is"
        return f"data.columns={{{free}: {column}}} reads it as the {free}"


def _is_label(column: str, value: Any, row: Row) -> bool:
    """Whether a value tells of the row; so does a text that has the whole row in it once more."""
    name = column.rpartition(".")[2]
    if name in ORDERS:
        return False
    if name in LABELS or name == "id" or name.endswith("_id"):
        return True
    if not isinstance(value, str):
        return not isinstance(value, list | dict)
    again = row.instruction in value and row.response in value
    return again or (name not in REASONING and len(value.split()) < 2)


def told(unread: Sequence[Unread]) -> Iterator[str]:
    """A line for each source with columns that are lost; of many sources the first, and a count."""
    lost = sorted((u for u in unread if not u.label), key=lambda u: u.source)
    sources = [(source, list(columns)) for source, columns in groupby(lost, lambda u: u.source)]
    for source, columns in sources[:SHOWN]:
        each = "; ".join(f"{u.column!r} in {_rows(u.rows)} ({u.remedy})" for u in columns)
        yield f"{source}: not read: {each}"
    if others := sources[SHOWN:]:
        yield f"{len(others):,} more sources hold what is not read: audit.json lists all"


def labels_told(unread: Sequence[Unread]) -> str | None:
    """The labels of all sources in one line, if there are any."""
    rows: dict[str, int] = {}
    for column in (u for u in unread if u.label):
        rows[column.column] = rows.get(column.column, 0) + column.rows
    if not rows:
        return None
    first = ", ".join(f"{name!r} in {_rows(count)}" for name, count in list(rows.items())[:SHOWN])
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return f"labels that are not read: {first}{more}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
