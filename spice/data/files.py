"""Bytes on disk to records: JSONL, JSON, CSV, TSV, Parquet, Arrow, and saved data sets.

Every file may be packed by gzip or zstd. What a record means is for :mod:`spice.data.layouts`.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from spice.data.values import BadRowError, kind
from spice.errors import InputError
from spice.progress import progress

PACKED = (".gz", ".zst", ".zstd")
LARGEST_CELL = 1 << 30  # of a CSV file, in characters; the library's own limit is 131,072

#: where each record stands, itself, and the share of the file that is read with it
Records = Iterator[tuple[str, Any, float]]


def expand(pattern: str, key: str = "data.paths") -> list[Path]:
    """The files that a path or a pattern such as ``pools/**/*.jsonl`` names.

    A folder that ``datasets`` has saved counts as a file. ``key`` is the setting that names them.

    Raises:
        InputError: that is another folder, or no file at all.
    """
    path = Path(pattern).expanduser()
    if path.is_dir():
        return [_saved(path, key)]
    if path.is_file():
        return [path]
    try:
        found = [m for m in _matches(path) if m.is_file() or (m / "state.json").is_file()]
    except OSError as error:
        raise InputError(f"{key}: {pattern} cannot be followed: {error}") from error
    if not found:
        raise InputError(f"{key}: no such file: {pattern}")
    return found


def each_once(files: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The files in their order, and a remark on each that has several names."""
    names: dict[tuple[int, int], list[Path]] = {}
    for file in files:
        about = file.stat()
        names.setdefault((about.st_dev, about.st_ino), []).append(file)
    remarks = [
        f"{first} is named {1 + len(others)} times (again as {others[0]}); it is read once"
        for first, *others in names.values()
        if others
    ]
    return [first for first, *_ in names.values()], remarks


def _matches(pattern: Path) -> list[Path]:
    """What a pattern matches, sorted; ``**`` enters each folder once, whatever links lead there."""
    parts = pattern.parts
    if "**" not in parts:
        return [Path(match) for match in sorted(glob.glob(str(pattern)))]
    at = parts.index("**")
    rest = parts[at + 1 :] or ("*",)
    roots = _matches(Path(*parts[:at])) if at else [Path()]
    inside = [folder for root in roots for folder in _folders(root, set())]
    return sorted({m for f in inside for m in _matches(Path(glob.escape(str(f)), *rest))})


def _folders(root: Path, seen: set[str]) -> Iterator[Path]:
    if not root.is_dir() or os.path.realpath(root) in seen:
        return
    seen.add(os.path.realpath(root))
    yield root
    for folder in sorted(root.iterdir()):
        if not folder.name.startswith("."):
            yield from _folders(folder, seen)


def _saved(folder: Path, key: str) -> Path:
    """A folder written by ``datasets``' save_to_disk; of one with splits, its only split."""
    if (folder / "state.json").is_file():
        return folder
    if not (folder / "dataset_dict.json").is_file():
        raise InputError(f"{key}: {folder} is a folder; name its files, as in *.jsonl")
    splits = sorted(path.parent for path in folder.glob("*/state.json"))
    if len(splits) != 1:
        names = ", ".join(split.name for split in splits)
        raise InputError(f"{key}: {folder} holds the splits {names}; name one, as in FOLDER/train")
    return splits[0]


def read_files(files: Sequence[Path]) -> Iterator[tuple[str, str, Any]]:
    """Yield ``(where, source, record)`` for each record, a :class:`BadRowError` for a broken one.

    How long it takes is told by bytes on disk, for nobody knows how many rows there are.

    Raises:
        InputError: a file cannot be read at all.
    """
    sizes = [_size(path) for path in files]
    with progress("pool", unit="rows", work=float(sum(sizes))) as tell:
        for path, size in zip(files, sizes, strict=True):
            before = 0.0
            for where, source, record, share in _read_file(path):
                tell(1, (share - before) * size)
                before = share
                yield where, source, record


def _size(path: Path) -> int:
    """Bytes on disk; what cannot be looked at meets its error when it is read."""
    try:
        inside = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        return sum(each.stat().st_size for each in inside)
    except OSError:
        return 0


def _read_file(path: Path) -> Iterator[tuple[str, str, Any, float]]:
    unpacked = path.with_suffix("") if path.suffix.lower() in PACKED else path
    suffix = unpacked.suffix.lower()
    read = _read_saved if path.is_dir() else READERS.get(suffix)
    if read is None:
        known = ", ".join(READERS)
        raise InputError(f"{path}: unknown format {suffix!r}; known are {known} (and .gz, .zst)")
    source = unpacked.stem
    if path.is_dir():
        split = (path.parent / "dataset_dict.json").is_file()
        source = path.resolve().parent.name if split else path.resolve().name
    try:
        for where, record, share in read(path):
            yield where, source, record, share
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
    """What is in a file, unpacked, and how much of it has been read, a share of it on disk."""
    packing, size = path.suffix.lower(), max(path.stat().st_size, 1)
    if packing not in PACKED:
        with path.open("rb") as file:
            yield file, lambda: file.tell() / size
    elif packing == ".gz":
        with path.open("rb") as raw, gzip.open(raw, "rb") as unpacked:
            yield io.BufferedReader(unpacked), lambda: raw.tell() / size
    else:
        import pyarrow

        with pyarrow.OSFile(str(path)) as raw:
            stream = pyarrow.CompressedInputStream(raw, "zstd")
            yield io.BufferedReader(stream), lambda: raw.tell() / size


def _read_jsonl(path: Path) -> Records:
    with _open(path) as (file, share):
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path}:{number}", _parse(line), share()


def _read_json(path: Path) -> Records:
    content = _content(path)
    records = _parse(content)
    if isinstance(records, BadRowError):
        if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            yield from _read_jsonl(path)  # JSON lines named .json, as the hub often has them
            return
        raise InputError(f"{path}: {records}")
    if isinstance(records, dict):
        records = [records]  # JSON lines again, of which there is but one
    if not isinstance(records, list):
        raise InputError(f"{path}: must hold a list of records, not {kind(records)}")
    for i, record in enumerate(records):
        yield f"{path}: record {i + 1}", record, (i + 1) / len(records)


def _parse(line: bytes) -> Any:
    """The JSON value, or the reason why there is none, as a record that no row can be made of."""
    try:
        return json.loads(line.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        return BadRowError(f"not UTF-8 (byte {error.start})")
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, " if error.lineno > 1 else ""
        return BadRowError(f"not valid JSON: {error.msg} ({at}column {error.colno})")
    except RecursionError:
        return BadRowError("not valid JSON: nested too deeply")
    except BadRowError as error:
        return error
    except ValueError:  # Python reads no number of more than 4,300 digits
        return BadRowError("not valid JSON: a number with too many digits")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadRowError(f"two values for {_twice([key for key, _ in pairs])!r} in one object")
    return found


def _twice(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _read_csv(path: Path) -> Records:
    yield from _read_cells(path, ",")


def _read_tsv(path: Path) -> Records:
    yield from _read_cells(path, "\t")


def _read_cells(path: Path, delimiter: str) -> Records:
    csv.field_size_limit(LARGEST_CELL)
    with _open(path) as (file, share):
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        lines = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            header = next(lines, [])
            _check_header(path, header)
            start = lines.line_num + 1
            for cells in lines:
                if cells:
                    yield f"{path}:{start}", _named(header, cells), share()
                start = lines.line_num + 1
        except csv.Error as error:
            raise InputError(f"{path}:{lines.line_num}: not a valid table: {error}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 after line {lines.line_num}") from error


def _named(header: list[str], cells: list[str]) -> Any:
    if len(cells) > len(header):
        return BadRowError(f"{len(cells)} cells where the header names {len(header)} columns")
    return dict(zip(header, cells, strict=False))


def _check_header(path: Path, header: list[str]) -> None:
    if len(set(header)) < len(header):
        raise InputError(f"{path}: two columns are named {_twice(header)!r}")


def _read_parquet(path: Path) -> Records:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(_content(path)))
        names, total = file.schema_arrow.names, file.metadata.num_rows
        yield from _read_batches(path, names, file.iter_batches(), total)
    except InputError:
        raise
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(f"{path}: not a Parquet file: {error}") from error


def _read_arrow(path: Path) -> Records:
    """Feather and IPC files, or the streams that ``datasets`` writes."""
    import pyarrow

    content = _content(path)
    try:
        opened = pyarrow.ipc.open_file if content.startswith(b"ARROW1") else pyarrow.ipc.open_stream
        table = opened(content).read_all()  # no copy, unless it is compressed
        yield from _read_batches(path, table.schema.names, table.to_batches(), table.num_rows)
    except InputError:
        raise
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(f"{path}: not an Arrow file: {error}") from error


def _content(path: Path) -> bytes:
    with _open(path) as (file, _):
        return file.read()


def _read_batches(path: Path, names: list[str], batches: Iterable[Any], total: int) -> Records:
    _check_header(path, names)
    number = 0
    for batch in batches:
        for record in batch.to_pylist():
            number += 1
            yield f"{path}: row {number}", record, number / total


def _read_saved(folder: Path) -> Records:
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        files = [folder / file["filename"] for file in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: state.json is not a saved data set's: {error!r}") from error
    for place, file in enumerate(files):
        for where, record, share in _read_arrow(file):
            yield where, record, (place + share) / len(files)


READERS: dict[str, Callable[[Path], Records]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
}
