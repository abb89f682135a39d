"""Many records to rows, with a tally of what was left out, mended and not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from spice.data.layouts import COLUMNS, Rules, find_row
from spice.data.unread import Unreads
from spice.data.values import BadRowError, listed
from spice.errors import InputError, did_you_mean
from spice.records import Row

FIELDS = tuple(name for name in COLUMNS if name != "taught")
ROLES = ("system", "user", "assistant")


class Reading:
    """Reads records one after another; ``key`` is the part of the configuration that says how.

    ``named`` is the source of all rows; without it they have their own, or their file's name.
    """

    def __init__(
        self, rules: Rules, on_bad_row: str, key: str = "data", named: str | None = None
    ) -> None:
        self.rules = rules
        self.on_bad_row = on_bad_row
        self.key = key
        self.named = named
        self.skipped: list[str] = []
        self.unread = Unreads()
        self.changed: Counter[str] = Counter()
        self._columns: dict[str, None] = {}  # met so far, in order
        self._roles: dict[str, None] = {}

    def rows(self, entries: Iterable[tuple[str, str, Any]], origin: str) -> Iterator[Row]:
        """The rows of ``(where, default source, record)`` entries from ``origin``, one by one.

        Raises:
            InputError: there is no row at all, a bad one where ``on_bad_row`` is ``error``, or what
                the rules name is nowhere.
        """
        some = False
        for where, source, record in entries:
            if (row := self._row(where, source, record)) is not None:
                some = True
                yield row
        self._check_names()
        if not some:
            bad = self.skipped
            first = f" but bad ones, the first of {len(bad):,}: {bad[0]}" if bad else ""
            raise InputError(f"the pool is empty: no rows in {origin}{first}")

    def _row(self, where: str, source: str, record: Any) -> Row | None:
        if isinstance(record, dict):
            self._columns.update(dict.fromkeys(map(str, record)))
        try:
            found = find_row(record, source, self.rules, self.named)
        except BadRowError as error:
            if self.on_bad_row == "error":
                skip = " (data.on_bad_row=skip leaves it out)" if self.key[:4] == "data" else ""
                raise InputError(f"{where}: {error}{self._misnamed()}{skip}") from None
            self.skipped.append(f"{where}: {error}")
            return None
        self.unread.add(found)
        self.changed.update(found.changed)
        self._roles.update(dict.fromkeys(found.roles or ()))
        return found.row

    def _misnamed(self) -> str:
        """A word on the first column that was asked for and has not been met."""
        for ours, theirs in self.rules.columns.items():
            if theirs not in self._columns:
                hint = did_you_mean(theirs, self._columns)
                return f"; {self.key}.columns.{ours}={theirs}: it has no such column.{hint}"
        return ""

    def _check_names(self) -> None:
        if not self._columns:  # not one record
            return
        for ours, theirs in self.rules.columns.items():
            if theirs not in self._columns:
                raise InputError(
                    f"{self.key}.columns.{ours}={theirs}: no row has such a column."
                    f"{did_you_mean(theirs, self._columns)} There are {listed(self._columns)}"
                )
        for theirs in self.rules.roles:
            if theirs not in self._roles and not self.skipped:
                there = f"There are {listed(self._roles)}" if self._roles else "No row has turns"
                raise InputError(
                    f"data.roles.{theirs}: no turn has such a role."
                    f"{did_you_mean(theirs, self._roles)} {there}"
                )
