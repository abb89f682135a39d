"""Pools: rows from files, the hub or the sandbox, checked and identified.

:mod:`spice.data.files` says which files are understood, :mod:`spice.data.layouts` which records.
"""

from __future__ import annotations

import dataclasses
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from spice.data.files import each_once, expand, read_files
from spice.data.identity import limited, numbered
from spice.data.layouts import Rules
from spice.data.reading import FIELDS, ROLES, Reading
from spice.data.row_table import ids_of, sources_of
from spice.data.unread import Unread
from spice.errors import InputError, did_you_mean
from spice.progress import progress
from spice.records import Row
from spice.storage.files import short_hash
from spice.storage.seals import hash_of
from spice.values import Count, FilePath, FilePaths, Keys, Name, RefusedError, Text, Told, component

OnBadRow = Literal["error", "skip"]


@dataclass(frozen=True)
class Pool:
    """The rows to choose from, and what its owner should know of how they were read.

    ``skipped`` lists where rows were left out, and why; ``unread`` what else the records hold;
    ``changed`` counts the records to which something was done, by what it was. ``truth`` is what
    the sandbox knows about its rows, by id; no selector sees it.
    """

    rows: Sequence[Row]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    changed: Mapping[str, int] = field(default_factory=dict)
    truth: Mapping[str, Any] | None = None

    def digest(self) -> str:
        """A hash of the rows in their order: ids and sources decide all that follows."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        named = zip(ids_of(self.rows), sources_of(self.rows), strict=True)
        return short_hash("\n".join(f"{id}\t{source}" for id, source in named).encode())

    def report(self) -> dict[str, Any]:
        """How the rows were read, as a JSON object."""
        unread = [dataclasses.asdict(column) for column in self.unread]
        return {"skipped": self.skipped, "changed": dict(self.changed), "unread": unread}


class Data(ABC):
    """What stands behind ``data=``."""

    @abstractmethod
    def load(self) -> Pool:
        """Read and check the rows."""


@dataclass
class Report:
    """What reading a pool has found so far beside its rows; :class:`Pool` says what each is."""

    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    changed: Counter[str] = field(default_factory=Counter)


class Streamed(Data):
    """A pool that can be read row by row."""

    @abstractmethod
    def stream(self, report: Report) -> Iterator[Row]:
        """The checked rows with their ids; the report is whole when the last has come."""

    @abstractmethod
    def contents(self) -> dict[str, Any] | None:
        """What decides the rows and the report; None if that is not known before they are read."""

    def load(self) -> Pool:
        """Read all rows into memory.

        Raises:
            InputError: what :meth:`stream` refuses.
        """
        report = Report()
        rows = list(self.stream(report))
        return Pool(rows, report.skipped, report.notes, report.unread, report.changed)


@component
class FilePool(Streamed):
    """``data=jsonl``: files of any known format, plain or packed, several at once.

    ``limit`` keeps the rows with the smallest ids: since ids are hashes, a uniform sample that is
    the same for every seed and every order of the files. ``on_bad_row`` is ``error`` or ``skip``.
    ``columns`` says which column holds a field, as in ``{instruction: question}``, ``roles`` whose
    turns are whose, as in ``{model: assistant}``; ``mend`` repairs turns that do not alternate.
    ``source`` is that of all rows; without it they have their own. ``key`` is the part of the
    configuration that this is.
    """

    paths: Annotated[
        FilePaths, MinLen(1), Told("must be a list of files, as in data.paths=[a.jsonl,b.jsonl]")
    ]
    limit: Count | None
    on_bad_row: OnBadRow
    columns: Mapping[str, Text] | None = None
    roles: Mapping[str, Text] | None = None
    mend: bool = False
    source: Text | None = None
    key: Text = "data"

    def __post_init__(self) -> None:
        _check_names(self.columns, self.roles)

    def stream(self, report: Report) -> Iterator[Row]:
        """Read all files, in the order given.

        Raises:
            InputError: what the reader and :func:`rows_of` refuse.
        """
        files, notes = self._files()
        report.notes += notes
        return rows_of(read_files(files), self, report, origin=", ".join(map(str, files)))

    def contents(self) -> dict[str, Any]:
        """The files by their names and content, with the settings."""
        files, notes = self._files()
        inside = [[str(file), _content(file)] for file in files]
        return {**_settings(self), "files": inside, "notes": notes}

    def _files(self) -> tuple[list[Path], list[str]]:
        return each_once(f for path in self.paths for f in expand(path, f"{self.key}.paths"))


@component
class HubPool(Streamed):
    """``data=hub``: a data set of the hub, or of a local folder in the hub's layout."""

    name: FilePath
    config: Name | None
    split: Name
    limit: Count | None
    on_bad_row: OnBadRow
    columns: Mapping[str, Text] | None = None
    roles: Mapping[str, Text] | None = None
    mend: bool = False
    revision: Name | None = None
    data_files: FilePath | None = None
    source: Text | None = None
    key: Text = "data"

    def __post_init__(self) -> None:
        _check_names(self.columns, self.roles)

    def stream(self, report: Report) -> Iterator[Row]:
        """Download (or find in the cache) and read the data set."""
        return rows_of(self._records(), self, report, origin=f"data set {self.name!r}")

    def contents(self) -> None:
        """Not known: what a name stands for on the hub may change."""

    def _records(self) -> Iterator[tuple[str, str, Any]]:
        import datasets

        try:
            with tempfile.TemporaryDirectory() as fresh:
                # What is prepared from local files is kept under their names, whatever is in them.
                data = datasets.load_dataset(
                    self.name,
                    self.config,
                    split=self.split,
                    revision=self.revision,
                    data_files=self.data_files,
                    cache_dir=fresh if self._is_local() else None,
                )
                source = PurePath(self.name).name
                with progress("pool", len(data), "rows") as tell:
                    for number, record in enumerate(data, start=1):
                        tell()
                        yield f"{self.name}: row {number}", source, record
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"data set {self.name!r} cannot be loaded: {reason}") from error

    def _is_local(self) -> bool:
        named = [self.name, self.data_files] if self.data_files else [self.name]
        return any(Path(str(name)).expanduser().exists() for name in named)


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
    columns: Mapping[str, Text] | None = None
    data_files: FilePath | None = None
    revision: Name | None = None
    rows: Count | None = None
    path: Annotated[
        FilePath | FilePaths | None, Told("must be a file or a list of files, or null")
    ] = None

    def __post_init__(self) -> None:
        if self.path is None and self.name is None:
            raise RefusedError("name", None, "needs a name on the hub, or a path")
        _check_names(self.columns, None)


@component
class MixPool(Streamed):
    """``data=paper_pool``: several pools as one, each cut to its count of rows.

    ``parts`` maps a source's name to what it is made of. ``assumption`` is said aloud.
    """

    parts: Mapping[str, Annotated[Part, Keys()]]
    assumption: Text
    limit: Count | None
    on_bad_row: OnBadRow
    roles: Mapping[str, Text] | None = None
    mend: bool = False

    def __post_init__(self) -> None:
        _check_names(None, self.roles)

    def stream(self, report: Report) -> Iterator[Row]:
        """Read each part, name its rows after it, and join them."""
        report.notes.append(self.assumption)
        parts = (self._part(name, part, report) for name, part in self.parts.items())
        return limited(numbered(row for rows in parts for row in rows), self.limit)

    def contents(self) -> dict[str, Any] | None:
        """What decides the parts."""
        parts = {name: self._reader(name, part).contents() for name, part in self.parts.items()}
        return None if None in parts.values() else {**_settings(self), "parts": parts}

    def _part(self, source: str, part: Part, report: Report) -> Iterator[Row]:
        """A part's rows; the report hears of it once they have all come."""
        own, count = Report(), 0
        for row in self._reader(source, part).stream(own):
            count += 1
            yield row
        report.skipped += own.skipped
        report.notes += own.notes
        report.unread += own.unread
        report.changed += own.changed
        if part.rows is not None and count < part.rows:
            report.notes.append(f"{source}: {count} rows where the paper's mix has {part.rows}")

    def _reader(self, source: str, part: Part) -> FilePool | HubPool:
        common: dict[str, Any] = {
            "limit": part.rows, "on_bad_row": self.on_bad_row, "columns": part.columns,
            "roles": self.roles, "mend": self.mend, "source": source, "key": f"data.parts.{source}",
        }  # fmt: skip
        if part.path is not None:
            return FilePool((part.path,) if isinstance(part.path, str) else part.path, **common)
        assert part.name is not None
        return HubPool(
            part.name,
            part.config,
            part.split,
            revision=part.revision,
            data_files=part.data_files,
            **common,
        )


def rows_of(
    entries: Iterable[tuple[str, str, Any]], how: FilePool | HubPool, report: Report, *, origin: str
) -> Iterator[Row]:
    """Turn ``(where, default source, record)`` entries into checked rows.

    Raises:
        InputError: there is no row at all, or a bad one where ``on_bad_row`` is ``error``.
    """
    how_read = Rules(how.columns or {}, how.roles or {}, how.mend)
    reading = Reading(how_read, how.on_bad_row, how.key, how.source)
    yield from limited(numbered(reading.rows(entries, origin)), how.limit)
    report.skipped += reading.skipped
    report.unread += reading.unread.listed()
    report.changed += reading.changed


def _settings(data: Any) -> dict[str, Any]:
    """A pool's options as JSON holds them; where its files are is said with what is in them."""
    options = dataclasses.asdict(data)
    return {"kind": type(data).__name__, **{k: v for k, v in options.items() if k != "paths"}}


def _content(file: Path) -> str | list[list[str]]:
    """The hash of a file, or of each in a folder that counts as one."""
    if file.is_file():
        return hash_of(file)
    inside = sorted(path for path in file.rglob("*") if path.is_file())
    return [[path.relative_to(file).as_posix(), hash_of(path)] for path in inside]


def _check_names(columns: Mapping[str, str] | None, roles: Mapping[str, str] | None) -> None:
    """Refuse fields and roles that are not ours."""
    for ours, theirs in (columns or {}).items():
        if ours not in FIELDS:
            hint = f"{did_you_mean(ours, FIELDS)} Known: {', '.join(FIELDS)}"
            raise RefusedError(f"columns.{ours}", theirs, f"no such field.{hint}")
    for theirs, ours in (roles or {}).items():
        if ours not in ROLES:
            words = f"must be one of {', '.join(ROLES)}.{did_you_mean(ours, ROLES)}"
            raise RefusedError(f"roles.{theirs}", ours, words)
