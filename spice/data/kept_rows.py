"""A pool that was read once is kept: its rows as a table on disk, and what is to be said of them.

The same files under the same settings are opened again, by what is in the files. Of a data set of
the hub that is not known before: it is read each time, and what was read is kept once.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from spice.data.pool import Data, Pool, Report, Streamed
from spice.data.row_table import RowTable, write_rows
from spice.data.unread import Unread
from spice.errors import InputError
from spice.storage.closure import code_version, library_versions
from spice.storage.files import read_json, write_json
from spice.storage.seals import hash_of

CODE = ("spice.data.kept_rows",)
ROWS, REPORT = "rows.arrow", "report.json"

#: makes the stage of a key, or finds it; gives its folder
Keep = Callable[[dict[str, Any], Callable[[Path], None]], Path]


def read(data: Data, keep: Keep, scratch: Path) -> Pool:
    """A pool whose rows stay on disk, but for one that is generated.

    Of what is not known before it is read, the rows are in ``scratch`` until their key is known.

    Raises:
        InputError: what the pool's own ``load`` refuses, or a file that changes while it is read.
    """
    if not isinstance(data, Streamed):
        return data.load()
    if (contents := data.contents()) is not None:
        return _opened(keep(_key(contents), partial(_write, data, contents)))
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="rows.", suffix=".partial") as fresh:
        _write(data, None, Path(fresh))
        read_so = {name: hash_of(Path(fresh) / name) for name in (ROWS, REPORT)}
        return _opened(keep(_key(read_so), partial(_move, Path(fresh))))


def _key(contents: dict[str, Any]) -> dict[str, Any]:
    versions = library_versions(*CODE)
    return {"contents": contents, "code": code_version(*CODE), "versions": versions}


def _opened(folder: Path) -> Pool:
    report = read_json(folder / REPORT)
    report["unread"] = [Unread(**column) for column in report["unread"]]
    return Pool(RowTable(folder / ROWS), **report)


def _move(fresh: Path, folder: Path) -> None:
    for name in (ROWS, REPORT):
        (fresh / name).replace(folder / name)


def _write(data: Streamed, contents: dict[str, Any] | None, folder: Path) -> None:
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
