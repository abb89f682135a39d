"""A pool that was read once is kept: its rows as a table on disk, and what is to be said of them.

The same files under the same settings are opened again, by what is in the files.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from spice.data.pool import Data, Pool, Report, Streamed
from spice.data.row_table import RowTable, write_rows
from spice.data.unread import Unread
from spice.errors import InputError
from spice.storage.closure import code_version, library_versions
from spice.storage.files import read_json, write_json

CODE = ("spice.data.kept_rows",)
ROWS, REPORT = "rows.arrow", "report.json"

#: makes the stage of a key, or finds it; gives its folder
Keep = Callable[[dict[str, Any], Callable[[Path], None]], Path]


def read(data: Data, keep: Keep) -> Pool:
    """A pool whose rows stay on disk, if what they will be is known before they are read.

    Raises:
        InputError: what the pool's own ``load`` refuses, or a file that changes while it is read.
    """
    if not isinstance(data, Streamed) or (contents := data.contents()) is None:
        return data.load()
    versions = library_versions(*CODE)
    key = {"contents": contents, "code": code_version(*CODE), "versions": versions}
    folder = keep(key, partial(_write, data, contents))
    report = read_json(folder / REPORT)
    report["unread"] = [Unread(**column) for column in report["unread"]]
    return Pool(RowTable(folder / ROWS), **report)


def _write(data: Streamed, contents: dict[str, Any], folder: Path) -> None:
    """Nothing is left of a pool that is refused."""
    report = Report()
    try:
        write_rows(folder / ROWS, data.stream(report))
        if data.contents() != contents:
            raise InputError("data: a file was changed while it was read; start again")
    except InputError:
        shutil.rmtree(folder)
        raise
    plain = dataclasses.replace(report, changed=Counter())  # asdict would count a Counter's pairs
    write_json(folder / REPORT, {**dataclasses.asdict(plain), "changed": dict(report.changed)})
