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
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from spice.data.files import each_once, expand, read_file
from spice.data.layouts import Rules
from spice.data.reading import FIELDS, ROLES, Reading
from spice.data.unread import Unread
from spice.errors import InputError, did_you_mean
from spice.records import Row, row_id
from spice.storage.files import short_hash
from spice.values import Count, FilePath, FilePaths, Keys, Name, RefusedError, Text, Told, component

OnBadRow = Literal["error", "skip"]


@dataclass(frozen=True)
class Pool:
    """The rows to choose from, and what its owner should know of how they were read.

    ``skipped`` lists where rows were left out, and why; ``unread`` what else the records hold;
    ``changed`` counts the records to which something was done, by what it was. ``truth`` is what
    the sandbox knows about its rows, by id; no selector sees it.
    """

    rows: list[Row]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    changed: Mapping[str, int] = field(default_factory=dict)
    truth: Mapping[str, Any] | None = None

    def digest(self) -> str:
        """A hash of the rows in their order: ids and sources decide all that follows."""
        joined = "\n".join(f"{row.id}\t{row.source}" for row in self.rows)
        return short_hash(joined.encode())

    def report(self) -> dict[str, Any]:
        """How the rows were read, as a JSON object."""
        unread = [dataclasses.asdict(column) for column in self.unread]
        return {"skipped": self.skipped, "changed": dict(self.changed), "unread": unread}


class Data(ABC):
    """What stands behind ``data=``."""

    @abstractmethod
    def load(self) -> Pool:
        """Read and check the rows."""


@component
class FilePool(Data):
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

    def load(self) -> Pool:
        """Read all files, in the order given.

        Raises:
            InputError: what the reader and :func:`build` refuse.
        """
        found = [file for path in self.paths for file in expand(path, f"{self.key}.paths")]
        files, notes = each_once(found)
        return build(
            (entry for file in files for entry in read_file(file)),
            self,
            origin=", ".join(map(str, files)),
            notes=notes,
        )


@component
class HubPool(Data):
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

    def load(self) -> Pool:
        """Download (or find in the cache) and read the data set."""
        return build(self._records(), self, origin=f"data set {self.name!r}")

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
                for number, record in enumerate(data, start=1):
                    yield f"{self.name}: row {number}", PurePath(self.name).name, record
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
class MixPool(Data):
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

    def load(self) -> Pool:
        """Load each part, name its rows after it, and join them."""
        loaded = [self._part(name, part) for name, part in self.parts.items()]
        return Pool(
            _limit(identify(row for pool in loaded for row in pool.rows), self.limit),
            skipped=[where for pool in loaded for where in pool.skipped],
            notes=[self.assumption, *(note for pool in loaded for note in pool.notes)],
            unread=[column for pool in loaded for column in pool.unread],
            changed=sum((Counter(pool.changed) for pool in loaded), Counter()),
        )

    def _part(self, source: str, part: Part) -> Pool:
        common: dict[str, Any] = {
            "limit": part.rows, "on_bad_row": self.on_bad_row, "columns": part.columns,
            "roles": self.roles, "mend": self.mend, "source": source, "key": f"data.parts.{source}",
        }  # fmt: skip
        reader: Data
        if part.path is None:
            assert part.name is not None
            reader = HubPool(
                part.name,
                part.config,
                part.split,
                revision=part.revision,
                data_files=part.data_files,
                **common,
            )
        else:
            paths = (part.path,) if isinstance(part.path, str) else part.path
            reader = FilePool(paths, **common)
        pool = reader.load()
        short = f"{source}: {len(pool.rows)} rows where the paper's mix has {part.rows}"
        few = part.rows is not None and len(pool.rows) < part.rows
        return dataclasses.replace(pool, notes=[*pool.notes, short] if few else pool.notes)


def build(
    entries: Iterable[tuple[str, str, Any]],
    how: FilePool | HubPool,
    *,
    origin: str,
    notes: Sequence[str] = (),
) -> Pool:
    """Turn ``(where, default source, record)`` entries into a checked pool.

    Raises:
        InputError: there is no row at all, or a bad one where ``on_bad_row`` is ``error``.
    """
    how_read = Rules(how.columns or {}, how.roles or {}, how.mend)
    reading = Reading(how_read, how.on_bad_row, how.key, how.source)
    reading.read(entries, origin)
    return Pool(
        _limit(identify(reading.rows), how.limit),
        skipped=reading.skipped,
        notes=list(notes),
        unread=reading.unread.listed(),
        changed=dict(reading.changed),
    )


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


def _limit(rows: list[Row], limit: int | None) -> list[Row]:
    if limit is None or limit >= len(rows):
        return rows
    kept = set(sorted(row.id for row in rows)[:limit])
    return [row for row in rows if row.id in kept]
