"""Files that are whole or not there at all, and hashes of what is in them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

DIGITS = 16  # hexadecimal ones of a hash: 64 bits, far more than any cache has entries


def publish(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path``, flush to disk, then rename: readers see all of it or nothing.

    One writer at a time has a store's folder; :mod:`spice.storage.stages` sees to that.

    Raises:
        OSError: the disk is full or takes nothing; the file is named.
    """
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        write(partial)
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except OSError as error:  # a write that fails does not say where
        error.filename = error.filename or str(path)
        raise


def sync(path: Path) -> None:
    """Have the disk hold what a file or a folder's list of names says."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Indented, with a newline at the end; whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    publish(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    """One record a line; whole or not at all."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    publish(path, lambda partial: partial.write_text("".join(lines), encoding="utf-8"))


def short_hash(data: bytes) -> str:
    """The first :data:`DIGITS` hexadecimal digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]
