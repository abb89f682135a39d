"""Files that are whole or not there at all, and hashes of what is in them."""

from __future__ import annotations

import filecmp
import glob
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from spice.errors import InputError

if TYPE_CHECKING:
    import numpy as np

WRITER = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]  # of a shared folder
DIGITS = 16  # hexadecimal ones of a hash: 64 bits, far more than any cache has entries


def publish(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path``, flush to disk, then rename: readers see all of it or nothing.

    One writer at a time has a store's folder; :mod:`spice.storage.stages` sees to that. Elsewhere
    writers of several machines may meet, whose process numbers may be the same.

    Raises:
        OSError: the disk is full or takes nothing; the file is named.
    """
    who = f"{WRITER}-{os.getpid()}-{secrets.token_hex(4)}"
    partial = path.with_name(f"{path.name}.partial-{who}")
    try:
        write(partial)
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except OSError as error:  # a write that fails does not say where
        error.filename = error.filename or str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove what killed writers left anywhere in a folder that nobody else writes to now."""
    for left in sorted(folder.rglob("*.partial*"), reverse=True):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def clear_beside(path: Path) -> None:
    """Remove what writers of a file left whose processes are gone; others may be writing it now."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.partial-{WRITER}-*"):
        if not psutil.pid_exists(int(left.name.split("-")[-2])):
            left.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the disk hold what a file or a folder's list of names says."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_folder(path: Path, write: Callable[[Path], object]) -> None:
    """The same of a folder; one that is there already gives way."""
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    write(partial)
    for file in partial.rglob("*"):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())
    shutil.rmtree(path, ignore_errors=True)
    partial.replace(path)


def publish_new(path: Path, write: Callable[[Path], object]) -> None:
    """The same of a file that may be somebody's: other content under its name stays as it is.

    Raises:
        InputError: there is such content.
    """

    def write_or_refuse(partial: Path) -> None:
        write(partial)
        if path.exists() and not (path.is_file() and filecmp.cmp(partial, path, shallow=False)):
            raise already_there(path)

    publish(path, write_or_refuse)


def already_there(path: Path) -> InputError:
    """What is said of a name under which there is something else."""
    return InputError(
        f"{path} is there already, with other content, and is not written over; delete it, or "
        "give another folder"
    )


def write_json(path: Path, value: Any) -> None:
    """Indented, with a newline at the end; whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    publish(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    """One record a line; whole or not at all."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    publish(path, write)


def write_array(path: Path, values: np.ndarray) -> None:
    """``values``, n × d or of any other shape, in numpy's format; whole or not at all."""
    import numpy as np  # keeps it out of start-up

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.save(file, values, allow_pickle=False)

    publish(path, write)


def check_writable(folder: Path, key: str) -> None:
    """Refuse a folder that could not be made and written to; nothing is made.

    Raises:
        InputError: so it is; ``key`` is what the user calls it.
    """
    there = nearest(folder)
    if not there.is_dir():
        raise InputError(f"{key}: {folder} cannot be a folder: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{key}: {there} cannot be written to")


def free_bytes(folder: Path) -> int:
    """Of the disk that a folder is on, or would be."""
    return shutil.disk_usage(nearest(folder)).free


def nearest(folder: Path) -> Path:
    """What is there of a path: itself, or the closest of those that hold it."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())


def short_hash(data: bytes) -> str:
    """The first :data:`DIGITS` hexadecimal digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]
