"""Pools: rows from files, the hub or the sandbox, checked and identified.

:mod:`spice.data.formats` says which files and which forms of a record are understood.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from spice.data.formats import BadRowError, expand, read_file, to_row
from spice.errors import InputError, did_you_mean
from spice.records import Row, row_id
from spice.storage.files import short_hash
from spice.values import Count, FilePath, FilePaths, Keys, Name, RefusedError, Text, Told, component

FIELDS = ("instruction", "input", "response", "source", "history", "system", "messages")
OnBadRow = Literal["error", "skip"]


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


class Data(ABC):
    """What stands behind ``data=``."""

    @abstractmethod
    def load(self) -> Pool:
        """Read and check the rows."""


@component
class FilePool(Data):
    """``data=jsonl``: JSONL, JSON or Parquet files, plain or gzipped, several at once.

    ``limit`` keeps the rows with the smallest ids: since ids are hashes, a uniform sample that is
    the same for every seed and every order of the files. ``on_bad_row`` is ``error`` or ``skip``.
    ``columns`` renames columns, as in ``{instruction: question}``.
    """

    paths: Annotated[
        FilePaths, MinLen(1), Told("must be a list of files, as in data.paths=[a.jsonl,b.jsonl]")
    ]
    limit: Count | None
    on_bad_row: OnBadRow
    columns: Mapping[str, Text] = field(default_factory=dict)
    source: Text | None = None

    def __post_init__(self) -> None:
        _check_columns(self.columns)

    def load(self) -> Pool:
        """Read all files, in the order given.

        Raises:
            InputError: what :func:`build` and the reader refuse.
        """
        files = [file for path in self.paths for file in expand(path)]
        return build(
            (entry for file in files for entry in read_file(file)),
            origin=", ".join(map(str, files)),
            limit=self.limit,
            on_bad_row=self.on_bad_row,
            columns=self.columns,
            source=self.source,
        )


@component
class HubPool(Data):
    """``data=hub``: a data set of the hub, or of a local folder in the hub's layout."""

    name: FilePath
    config: Name | None
    split: Name
    limit: Count | None
    on_bad_row: OnBadRow
    columns: Mapping[str, Text] = field(default_factory=dict)
    revision: Name | None = None
    data_files: FilePath | None = None

    def __post_init__(self) -> None:
        _check_columns(self.columns)

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


@component
class Part:
    """One source of a :class:`MixPool`: a data set of the hub, or the files in ``path``.

    ``rows`` of it are kept, all if null.

    Raises:
        RefusedError: it has neither a name nor a path, or renames what is no field.
    """

    name: FilePath | None = None
    config: Name | None = None
    split: Name = "train"
    columns: Mapping[str, Text] = field(default_factory=dict)
    data_files: FilePath | None = None
    revision: Name | None = None
    rows: Count | None = None
    path: Annotated[
        FilePath | FilePaths | None, Told("must be a file or a list of files, or null")
    ] = None

    def __post_init__(self) -> None:
        if self.path is None and self.name is None:
            raise RefusedError("name", None, "needs a name on the hub, or a path")
        _check_columns(self.columns)


@component
class MixPool(Data):
    """``data=paper_pool``: several pools as one, each cut to its count of rows.

    ``parts`` maps a source's name to what it is made of. ``assumption`` is said aloud.
    """

    parts: Mapping[str, Annotated[Part, Keys()]]
    assumption: Text
    limit: Count | None
    on_bad_row: OnBadRow

    def load(self) -> Pool:
        """Load each part, name its rows after it, and join them."""
        loaded = [self._part(name, part) for name, part in self.parts.items()]
        rows = identify(row for pool in loaded for row in pool.rows)
        skipped = [where for pool in loaded for where in pool.skipped]
        notes = [self.assumption, *(note for pool in loaded for note in pool.notes)]
        return Pool(_limit(rows, self.limit), skipped, notes)

    def _part(self, source: str, part: Part) -> Pool:
        reader: Data
        if part.path is None:
            assert part.name is not None
            reader = HubPool(
                part.name,
                part.config,
                part.split,
                part.rows,
                self.on_bad_row,
                part.columns,
                part.revision,
                part.data_files,
            )
        else:
            paths = (part.path,) if isinstance(part.path, str) else part.path
            reader = FilePool(paths, part.rows, self.on_bad_row, part.columns)
        pool = reader.load()
        rows = [dataclasses.replace(row, source=source) for row in pool.rows]
        short = f"{source}: {len(rows)} rows where the paper's mix has {part.rows}"
        few = part.rows is not None and len(rows) < part.rows
        return Pool(rows, pool.skipped, [short] if few else [])


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
        InputError: there is no row at all, or a bad one where ``on_bad_row`` is ``error``.
    """
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


def _check_columns(columns: Mapping[str, str]) -> None:
    for ours, theirs in columns.items():
        if ours not in FIELDS:
            hint = f"{did_you_mean(ours, FIELDS)} Known: {', '.join(FIELDS)}"
            raise RefusedError(f"columns.{ours}", theirs, f"no such field.{hint}")


def _limit(rows: list[Row], limit: int | None) -> list[Row]:
    if limit is None or limit >= len(rows):
        return rows
    kept = set(sorted(row.id for row in rows)[:limit])
    return [row for row in rows if row.id in kept]
