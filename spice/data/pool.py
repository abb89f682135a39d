"""Pools: rows from files, the hub or the sandbox, checked and identified.

:mod:`spice.data.formats` says which files and which forms of a record are understood.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Protocol

from spice.data.formats import BadRowError, expand, read_file, to_row
from spice.errors import InputError, did_you_mean
from spice.records import Row, row_id
from spice.storage.files import short_hash

FIELDS = ("instruction", "input", "response", "source", "history", "system", "messages")


@dataclass(frozen=True)
class Pool:
    """The rows to choose from; ``skipped`` lists where rows were left out, and why.

    ``truth`` is what the sandbox knows about its rows, by id; no selector sees it.
    """

    rows: list[Row]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    truth: Mapping[str, Any] | None = None

    def digest(self) -> str:
        """A hash of the rows in their order: ids and sources decide all that follows."""
        joined = "\n".join(f"{row.id}\t{row.source}" for row in self.rows)
        return short_hash(joined.encode())


class Data(Protocol):
    """What stands behind ``data=``."""

    def load(self) -> Pool:
        """Read and check the rows."""
        ...


@dataclass(frozen=True)
class FilePool:
    """``data=jsonl``: JSONL, JSON or Parquet files, plain or gzipped, several at once.

    ``limit`` keeps the rows with the smallest ids: since ids are hashes, a uniform sample that is
    the same for every seed and every order of the files. ``on_bad_row`` is ``error`` or ``skip``.
    ``columns`` renames columns, as in ``{instruction: question}``.
    """

    paths: Sequence[str]
    limit: int | None
    on_bad_row: str
    columns: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None

    def load(self) -> Pool:
        """Read all files, in the order given.

        Raises:
            InputError: ``paths`` is no list of files, or what :func:`build` and the reader refuse.
        """
        if isinstance(self.paths, str) or not self.paths:
            raise InputError("data.paths: give a list of files, as in data.paths=[a.jsonl,b.jsonl]")
        files = [file for path in self.paths for file in expand(str(path))]
        return build(
            (entry for file in files for entry in read_file(file)),
            origin=", ".join(map(str, files)),
            limit=self.limit,
            on_bad_row=self.on_bad_row,
            columns=self.columns,
            source=self.source,
        )


@dataclass(frozen=True)
class HubPool:
    """``data=hub``: a data set of the hub, or of a local folder in the hub's layout."""

    name: str
    config: str | None
    split: str
    limit: int | None
    on_bad_row: str
    columns: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None
    data_files: str | None = None

    def load(self) -> Pool:
        """Download (or find in the cache) and read the data set."""
        return build(
            self._records(),
            origin=f"data set {self.name!r}",
            limit=self.limit,
            on_bad_row=self.on_bad_row,
            columns=self.columns,
            source=None,
        )

    def _records(self) -> Iterator[tuple[str, str, Any]]:
        import datasets

        try:
            data = datasets.load_dataset(
                self.name,
                self.config,
                split=self.split,
                revision=self.revision,
                data_files=self.data_files,
            )
            for number, record in enumerate(data, start=1):
                yield f"{self.name}: row {number}", PurePath(self.name).name, record
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"data set {self.name!r} cannot be loaded: {reason}") from error


@dataclass(frozen=True)
class MixPool:
    """``data=paper_pool``: several pools as one, each cut to its count of rows.

    ``parts`` maps a source's name to ``name``, ``config``, ``split``, ``columns``, ``rows`` (all
    of them if null) and ``path``; a ``path`` (local files) takes the hub's place. ``assumption``
    is said aloud.
    """

    parts: Mapping[str, Mapping[str, Any]]
    assumption: str
    limit: int | None
    on_bad_row: str

    def load(self) -> Pool:
        """Load each part, name its rows after it, and join them."""
        _check(self.limit, self.on_bad_row, {})
        loaded = [self._part(name, dict(part)) for name, part in self.parts.items()]
        rows = identify(row for pool in loaded for row in pool.rows)
        skipped = [where for pool in loaded for where in pool.skipped]
        notes = [self.assumption, *(note for pool in loaded for note in pool.notes)]
        return Pool(_limit(rows, self.limit), skipped, notes)

    def _part(self, source: str, part: dict[str, Any]) -> Pool:
        expected, path = part.pop("rows", None), part.pop("path", None)
        common = {"limit": expected, "on_bad_row": self.on_bad_row}
        reader: FilePool | HubPool
        if path is None:
            if not part.get("name"):
                raise InputError(f"data.parts.{source}: needs a name on the hub, or a path")
            reader = HubPool(**part, **common)
        else:
            paths = [path] if isinstance(path, str) else list(path)
            reader = FilePool(paths, columns=part.get("columns", {}), **common)
        pool = reader.load()
        rows = [dataclasses.replace(row, source=source) for row in pool.rows]
        short = f"{source}: {len(rows)} rows where the paper's mix has {expected}"
        return Pool(rows, pool.skipped, [short] if expected and len(rows) < expected else [])


def build(
    entries: Iterable[tuple[str, str, Any]],
    *,
    origin: str,
    limit: int | None,
    on_bad_row: str,
    columns: Mapping[str, str],
    source: str | None,
) -> Pool:
    """Turn ``(where, default source, record)`` entries into a checked pool.

    Raises:
        InputError: there is no row at all, a bad one where ``on_bad_row`` is ``error``, or an
            option is outside its range.
    """
    _check(limit, on_bad_row, columns)
    rows, skipped = [], []
    for where, default_source, record in entries:
        try:
            rows.append(to_row(record, source or default_source, columns))
        except BadRowError as error:
            if on_bad_row == "error":
                raise InputError(f"{where}: {error} (data.on_bad_row=skip leaves it out)") from None
            skipped.append(f"{where}: {error}")
    if not rows:
        first = f" but bad ones, the first of {len(skipped):,}: {skipped[0]}" if skipped else ""
        raise InputError(f"the pool is empty: no rows in {origin}{first}")
    return Pool(_limit(identify(rows), limit), skipped)


def identify(rows: Iterable[Row]) -> list[Row]:
    """Give each row its id; a second, third … exact copy gets the suffix ``#2``, ``#3`` …."""
    seen: Counter[str] = Counter()
    identified = []
    for row in rows:
        key = row_id(row.system, row.history, row.instruction, row.input, row.response, row.taught)
        seen[key] += 1
        copy = f"{key}#{seen[key]}" if seen[key] > 1 else key
        identified.append(dataclasses.replace(row, id=copy))
    return identified


def _check(limit: Any, on_bad_row: str, columns: Mapping[str, str]) -> None:
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InputError(f"data.limit={limit}: must be a whole number of at least 1")
    if on_bad_row not in {"error", "skip"}:
        raise InputError(f"data.on_bad_row={on_bad_row}: must be error or skip")
    for ours in columns:
        if ours not in FIELDS:
            raise InputError(
                f"data.columns.{ours}: no such field.{did_you_mean(ours, FIELDS)} "
                f"Known: {', '.join(FIELDS)}"
            )


def _limit(rows: list[Row], limit: int | None) -> list[Row]:
    if limit is None or limit >= len(rows):
        return rows
    kept = set(sorted(row.id for row in rows)[:limit])
    return [row for row in rows if row.id in kept]
