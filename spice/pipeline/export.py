"""``spice export RUN --to FORM``: a run's rows as a file that a trainer reads.

The chosen ones are in ``selected.jsonl``. The rest of the pool is read as the run has read it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spice.data.row_table import ids_of, write_rows
from spice.data.trainer_forms import FEWEST, FORMS, Form, Masks, entry
from spice.errors import InputError
from spice.messages import say
from spice.pipeline.draft import Draft
from spice.records import Row, text_of
from spice.storage import locks
from spice.storage.files import (
    already_there,
    check_writable,
    publish_folder,
    publish_new,
    read_json,
    short_hash,
    write_json,
)

CHOSEN, REGISTRY = "selected.jsonl", "dataset_info.json"
NEEDED = {"n", "indices", "ids", "selector"}  # of selection.json


@dataclass(frozen=True)
class Exported:
    """A file or folder that was written: how many rows, and what was lost.

    ``config`` is what the trainer needs to be told, ``place`` where.
    """

    path: Path
    rows: int
    place: str
    config: str
    warnings: list[str]


@dataclass(frozen=True)
class Finished:
    """A run that has chosen: its folder, its configuration and its ``selection.json``."""

    folder: Path
    config: DictConfig
    selection: dict[str, Any]

    @property
    def last_alone(self) -> bool:
        """Whether it learns no answers but the last of each row."""
        return OmegaConf.select(self.config, "template.supervise") == "last"

    @property
    def name(self) -> str:
        """What its rows are called: the selector, how many, and which."""
        ids = self.selection["ids"]
        selector = "".join(c if c.isalnum() else "_" for c in str(self.selection["selector"]))
        return f"{selector}_{len(ids)}_{short_hash(json.dumps(ids).encode())[:6]}"


def export(
    folder: Path, to: str, into: Path | None = None, *, not_chosen: bool = False
) -> Exported:
    """Write the chosen rows in the order of picking, or all others in the pool's.

    ``into`` is the folder that the file goes to, the run's own ``export`` without it.

    Raises:
        InputError: the run has chosen no rows or not these, its pool is another now, or another
            file is where this one would be.
    """
    run, form = _finished(folder), FORMS[to]
    rows = _others(run) if not_chosen else _chosen(run)
    masks = Masks.of(rows(), last_alone=run.last_alone)
    if not masks.rows:
        raise InputError(f"{folder}: {'all rows were' if not_chosen else 'no row was'} chosen")
    where = (into or folder / "export").expanduser().resolve()
    check_writable(where, "--folder")
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"{run.name}{'_not_chosen' if not_chosen else ''}{form.ending}"
    _write(path, to, partial(_records, rows, form, masks, run.last_alone))
    warnings = list(_lost(to, form, masks))
    return Exported(path, masks.rows, form.place, form.config(path, masks), warnings)


def _finished(folder: Path) -> Finished:
    config: Any = None
    selection: Any = None
    try:
        config = OmegaConf.load(folder / "config.yaml")
        selection = read_json(folder / "selection.json")
    except FileNotFoundError as error:
        jobs = sorted(path.parent for path in folder.glob("*/selection.json"))
        hint = f"; a run of this sweep is {jobs[0]}" if jobs else ""
        raise InputError(
            f"{folder}: no run that has chosen, it has no {Path(error.filename).name}{hint}"
        ) from None
    except (ValueError, YAMLError, OmegaConfBaseException):
        pass  # told below, as is what is something else
    whole = isinstance(selection, dict) and selection.keys() >= NEEDED
    if not (whole and isinstance(config, DictConfig)):
        raise InputError(f"{folder}: config.yaml or selection.json is damaged")
    return Finished(folder, config, selection)


def _chosen(run: Finished) -> Callable[[], Iterator[Row]]:
    """The chosen rows, of which each is what its id says."""
    path = run.folder / CHOSEN
    try:
        with path.open(encoding="utf-8") as file:
            rows = [Row.from_dict(json.loads(line)) for line in file]
        whole = [row.id for row in rows] == run.selection["ids"]
        whole = whole and all(row.text_id() == text_of(row.id) for row in rows)
    except (OSError, ValueError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(
            f"{path} is damaged, or of another run than selection.json; run it again in another "
            "folder, and export that one"
        )
    return lambda: iter(rows)


def _others(run: Finished) -> Callable[[], Iterator[Row]]:
    """The pool's rows that were not chosen, if it is the pool that was chosen from."""
    cache = Path(str(run.config.get("cache_dir"))).expanduser()
    try:  # what is read is kept where the run's cache is, and makes none elsewhere
        rows = Draft(run.config, run.folder, fetch=cache.is_dir()).pool.rows
    except InputError as error:
        raise InputError(
            f"{run.folder}: its pool cannot be read again: {error}. Paths are as the run was given "
            "them; start the command where that was started"
        ) from error
    chosen, named = run.selection["indices"], ids_of(rows)
    there = [named[row] for row in chosen if row < len(named)]
    if (len(named), there) != (run.selection["n"], run.selection["ids"]):
        raise InputError(f"{run.folder}: its pool has changed since; run it again, and export that")
    left_out = set(chosen)
    return lambda: (row for i, row in enumerate(rows) if i not in left_out)


def _records(
    rows: Callable[[], Iterator[Row]], form: Form, masks: Masks, last_alone: bool
) -> Iterator[Any]:
    for row in rows():
        yield form.record(row, row.learnt(last_alone=last_alone) if masks.masked else None)


def _lost(to: str, form: Form, masks: Masks) -> Iterator[str]:
    if lost := form.lost(masks):
        yield (
            f"{lost:,} of {masks.rows:,} rows have answers that are not to be learnt; {to} has no "
            "way to say so of a row, and learns them (axolotl and openai have one)"
        )
    if to == "openai" and masks.rows < FEWEST:
        yield f"{masks.rows} rows; OpenAI's fine-tuning takes {FEWEST} at least"


def _write(path: Path, to: str, records: Callable[[], Iterator[Any]]) -> None:
    if to == "datasets":
        _write_dataset(path, records())
    elif to == "llamafactory":
        publish_new(path, lambda partial: _write_lines(partial, _listed(records())))
        _register(path)
    elif to == "ids":
        publish_new(path, lambda partial: _write_lines(partial, records()))
    else:
        publish_new(path, lambda partial: _write_lines(partial, map(_json, records())))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def _listed(records: Iterator[Any]) -> Iterator[str]:
    """One JSON list, an element a line."""
    before = "["
    for record in records:
        yield before + _json(record)
        before = ","
    yield "]"


def _json(record: Any) -> str:
    return json.dumps(record, ensure_ascii=False)


def _write_dataset(path: Path, rows: Iterator[Row]) -> None:
    import datasets
    import pyarrow
    from datasets.table import InMemoryTable

    datasets.disable_progress_bars()
    with TemporaryDirectory(dir=path.parent, prefix=".spice-export-") as scratch:
        file = Path(scratch) / "rows.arrow"
        write_rows(file, rows)
        with pyarrow.memory_map(str(file)) as mapped:
            table = pyarrow.ipc.open_file(mapped).read_all()
            if path.exists():
                if not _holds(path, table):
                    raise already_there(path)
                return
            made = datasets.Dataset(InMemoryTable(table))
            publish_folder(path, lambda partial: made.save_to_disk(str(partial)))


def _holds(folder: Path, table: Any) -> bool:
    """Whether a folder of ``datasets`` has these rows."""
    import datasets

    try:
        return bool(datasets.load_from_disk(str(folder)).data.table.equals(table))
    except Exception:  # whatever it is, it is no such folder
        return False


def _register(path: Path) -> None:
    """Enter a file into the ``dataset_info.json`` beside it, where others have theirs."""
    registry = path.with_name(REGISTRY)
    name = path.name.removesuffix(FORMS["llamafactory"].ending)
    waits = locks.telling(str(registry), partial(say, "export"))
    with locks.held(registry.with_name(f".{REGISTRY}.locked"), waits):
        known = entries(registry)
        if known.get(name, made := entry(path.name)) != made:
            raise InputError(f"{registry} has another entry {name}; delete it there")
        if name not in known:
            write_json(registry.resolve(), {**known, name: made})


def entries(registry: Path) -> dict[str, Any]:
    """What stands in a ``dataset_info.json``; nothing where there is none.

    Raises:
        InputError: it cannot be read as what it is to be.
    """
    if not registry.exists():
        return {}
    try:
        known = read_json(registry)
    except ValueError as error:
        raise InputError(f"{registry} is no JSON, and is left as it is: {error}") from None
    if not isinstance(known, dict):
        raise InputError(f"{registry} is no JSON object with an entry for each data set")
    return known
