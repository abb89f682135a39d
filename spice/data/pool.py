"""Pools: rows from files, the hub or the sandbox, checked and identified.

:mod:`spice.data.files` says which files are understood, :mod:`spice.data.layouts` which records.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Protocol

from spice.data.files import each_once, expand, read_file
from spice.data.reading import Reading, rules
from spice.data.unread import Unread
from spice.errors import InputError, did_you_mean
from spice.records import Row, row_id
from spice.storage.files import short_hash

#: what a part of a mix may say
PART = ("name", "config", "split", "revision", "data_files", "columns", "rows", "path")


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


class Data(Protocol):
    """What stands behind ``data=``."""

    def load(self) -> Pool:
        """Read and check the rows."""
        ...


@dataclass(frozen=True)
class FilePool:
    """``data=jsonl``: files of any known format, plain or packed, several at once.

    ``limit`` keeps the rows with the smallest ids: since ids are hashes, a uniform sample that is
    the same for every seed and every order of the files. ``on_bad_row`` is ``error`` or ``skip``.
    ``columns`` says which column holds a field, as in ``{instruction: question}``, ``roles`` whose
    turns are whose, as in ``{model: assistant}``; ``mend`` repairs turns that do not alternate.
    ``source`` is that of all rows; without it they have their own. ``key`` is the part of the
    configuration that this is.
    """

    paths: Sequence[str]
    limit: int | None
    on_bad_row: str
    columns: Mapping[str, str] | None = None
    roles: Mapping[str, str] | None = None
    mend: bool = False
    source: str | None = None
    key: str = "data"

    def load(self) -> Pool:
        """Read all files, in the order given.

        Raises:
            InputError: ``paths`` is no list of files, or what the reader and :func:`build` refuse.
        """
        key = f"{self.key}.paths"
        if isinstance(self.paths, str) or not self.paths:
            raise InputError(f"{key}: give a list of files, as in {key}=[a.jsonl,b.jsonl]")
        found = [file for path in self.paths for file in expand(str(path), key)]
        files, notes = each_once(found)
        return build(
            (entry for file in files for entry in read_file(file)),
            self,
            origin=", ".join(map(str, files)),
            notes=notes,
        )


@dataclass(frozen=True)
class HubPool:
    """``data=hub``: a data set of the hub, or of a local folder in the hub's layout."""

    name: str
    config: str | None
    split: str
    limit: int | None
    on_bad_row: str
    columns: Mapping[str, str] | None = None
    roles: Mapping[str, str] | None = None
    mend: bool = False
    revision: str | None = None
    data_files: str | None = None
    source: str | None = None
    key: str = "data"

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
    roles: Mapping[str, str] | None = None
    mend: bool = False

    def load(self) -> Pool:
        """Load each part, name its rows after it, and join them.

        Raises:
            InputError: as :func:`build`, or a part says what no part can.
        """
        _check(self.limit, self.on_bad_row, "data.limit")
        loaded = [self._part(name, part or {}) for name, part in self.parts.items()]
        return Pool(
            _limit(identify(row for pool in loaded for row in pool.rows), self.limit),
            skipped=[where for pool in loaded for where in pool.skipped],
            notes=[self.assumption, *(note for pool in loaded for note in pool.notes)],
            unread=[column for pool in loaded for column in pool.unread],
            changed=sum((Counter(pool.changed) for pool in loaded), Counter()),
        )

    def _part(self, source: str, part: Mapping[str, Any]) -> Pool:
        key, expected, path = f"data.parts.{source}", part.get("rows"), part.get("path")
        for name in part:
            if name not in PART:
                raise InputError(f"{key}.{name}: no such key.{did_you_mean(name, PART)}")
        _check(expected, self.on_bad_row, f"{key}.rows")
        common: dict[str, Any] = {
            "limit": expected, "on_bad_row": self.on_bad_row, "columns": part.get("columns"),
            "roles": self.roles, "mend": self.mend, "source": source, "key": key,
        }  # fmt: skip
        reader: FilePool | HubPool
        if path is None:
            if not part.get("name"):
                raise InputError(f"{key}: needs a name on the hub, or a path")
            there: dict[str, Any] = {"config": None, "split": "train", **part}
            on_hub = {k: v for k, v in there.items() if k not in (*common, "rows", "path")}
            reader = HubPool(**on_hub, **common)
        else:
            reader = FilePool([path] if isinstance(path, str) else list(path), **common)
        pool = reader.load()
        short = f"{source}: {len(pool.rows)} rows where the paper's mix has {expected}"
        missing = [short] if expected and len(pool.rows) < expected else []
        return dataclasses.replace(pool, notes=[*pool.notes, *missing])


def build(
    entries: Iterable[tuple[str, str, Any]],
    how: FilePool | HubPool,
    *,
    origin: str,
    notes: Sequence[str] = (),
) -> Pool:
    """Turn ``(where, default source, record)`` entries into a checked pool.

    Raises:
        InputError: there is no row at all, a bad one where ``on_bad_row`` is ``error``, or an
            option is outside its range.
    """
    _check(how.limit, how.on_bad_row, f"{how.key}.limit")
    reading = Reading(
        rules(how.columns, how.roles, how.mend, how.key), how.on_bad_row, how.key, how.source
    )
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


def _check(limit: Any, on_bad_row: str, key: str) -> None:
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InputError(f"{key}={limit}: must be a whole number of at least 1")
    if on_bad_row not in {"error", "skip"}:
        raise InputError(f"data.on_bad_row={on_bad_row}: must be error or skip")


def _limit(rows: list[Row], limit: int | None) -> list[Row]:
    if limit is None or limit >= len(rows):
        return rows
    kept = set(sorted(row.id for row in rows)[:limit])
    return [row for row in rows if row.id in kept]
