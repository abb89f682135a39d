"""A pool's rows on disk: an Arrow file, mapped into memory, of which rows are made when asked.

A million rows of one's own are a gigabyte of small objects, and more where they are long; a mapped
file takes what is being looked at. Another process that is sent a table opens the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from spice.records import Row

if TYPE_CHECKING:
    import pyarrow

PART = 1024  # rows of a record batch


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write rows, with no more than a part of them in memory; returns how many there were."""
    import pyarrow

    schema, count, left = _schema(), 0, iter(rows)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, schema) as writer:
        while part := list(islice(left, PART)):
            columns = [
                pyarrow.array([getattr(row, field.name) for row in part], field.type)
                for field in schema
            ]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
            count += len(part)
    return count


class RowTable(Sequence[Row]):
    """The n rows that :func:`write_rows` wrote; ``ids`` and ``sources`` without a row being made.

    Both are lists of n.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow

        self.path = path
        self._file = pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
        parts = self._file.num_record_batches
        last = self._file.get_batch(parts - 1).num_rows if parts else 0
        self._length = PART * (parts - 1) + last if parts else 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Where it is."""
        return RowTable, (self.path,)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Row]:
        for batch in self._batches():
            yield from _rows(batch)

    @overload
    def __getitem__(self, row: int) -> Row: ...
    @overload
    def __getitem__(self, row: slice) -> list[Row]: ...
    def __getitem__(self, row: int | slice) -> Row | list[Row]:
        if isinstance(row, slice):
            which = range(*row.indices(len(self)))
            return self._stretch(which) if which.step == 1 else [self._row(i) for i in which]
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._row(int(row) % len(self))

    @cached_property
    def ids(self) -> list[str]:
        """The rows' ids, n."""
        return self._column("id")

    @cached_property
    def sources(self) -> list[str]:
        """The rows' sources, n; each name is one object however many rows have it."""
        names: dict[str, str] = {}
        return [names.setdefault(name, name) for name in self._column("source")]

    def _column(self, name: str) -> list[str]:
        return [value for batch in self._batches() for value in batch.column(name).to_pylist()]

    def _batches(self) -> Iterator[pyarrow.RecordBatch]:
        return map(self._file.get_batch, range(self._file.num_record_batches))

    def _row(self, row: int) -> Row:
        return _rows(self._file.get_batch(row // PART).slice(row % PART, 1))[0]

    def _stretch(self, which: range) -> list[Row]:
        """Neighbours, a batch at a time."""
        found: list[Row] = []
        at = which.start
        while at < which.stop:
            batch = self._file.get_batch(at // PART).slice(at % PART, which.stop - at)
            found += _rows(batch)
            at += batch.num_rows
        return found


def ids_of(rows: Sequence[Row]) -> list[str]:
    """The ids of n rows; not to be changed."""
    return rows.ids if isinstance(rows, RowTable) else [row.id for row in rows]


def sources_of(rows: Sequence[Row]) -> list[str]:
    """The sources of n rows; not to be changed."""
    return rows.sources if isinstance(rows, RowTable) else [row.source for row in rows]


def _rows(batch: pyarrow.RecordBatch) -> list[Row]:
    columns = batch.to_pydict()
    columns["history"] = [tuple(map(tuple, history)) for history in columns["history"]]
    columns["taught"] = [tuple(taught) for taught in columns["taught"]]
    return [Row(*values) for values in zip(*columns.values(), strict=True)]


def _schema() -> pyarrow.Schema:
    """A column for each field of a row; texts of any length."""
    import pyarrow

    text = pyarrow.large_string()
    special = {
        "history": pyarrow.list_(pyarrow.list_(text)),
        "taught": pyarrow.list_(pyarrow.bool_()),
    }
    return pyarrow.schema([(name, special.get(name, text)) for name in Row.__slots__])
