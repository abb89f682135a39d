"""Seals: how a file that was written is told from one that was changed or damaged since.

What is verified when:

- A finished stage holds ``files.json``, which lists size and hash of each of its files. They are
  compared when a process reads the stage for the first time; a stage that differs is made again.
- A file that stands for itself (a greedy run, kept products, a window's choice, a learning proxy's
  state, the digest of a checkpoint's weights) ends in a line with the hash of what comes before it.
  It is verified each time that it is read, and made again if it differs.
- A tuning's checkpoint is an archive whose parts have checksums. They are verified when the tuning
  is gone on from; it begins anew without it.
- A shard and a kept epoch carry the hash of their numbers in their header. It is verified when a
  store or a warm-up that was interrupted is gone on from, and what differs is made again.
- A folder inside an unfinished stage that is gone on from, and a prepared dataset, hold a
  ``files.json`` of their own.

The hash is XXH3 with 128 bits: it finds accidents, at some 10 GB/s, and is no protection against
forgery. A file is hashed again as soon as its size or one of its times has changed.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from xxhash import xxh3_128

from spice.messages import warn
from spice.progress import counted
from spice.storage import disk, tensors
from spice.storage.files import clear_beside, publish, sync, write_json

MANIFEST = "files.json"
MARK = b"\nxxh3_128 "
TRAILER = len(MARK) + 33  # 32 digits and a newline
CHUNK = 2**22

#: the hashes that this process knows, by what changes with a file
_known: dict[tuple[int, ...], str] = {}


def unchanged(path: Path) -> tuple[int, ...]:
    """What stays while a file does, wherever it is moved to.

    Both of its times are in it: archives and ``cp -p`` put the first one back.
    """
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def hash_of(path: Path, without: int = 0) -> str:
    """The hash of a file's bytes but for the last few, remembered for as long as it is the same."""
    same = (*unchanged(path), without)
    if same not in _known:
        total, left = xxh3_128(), path.stat().st_size - without
        with path.open("rb") as file:
            while left > 0 and (part := file.read(min(CHUNK, left))):
                total.update(part)
                left -= len(part)
        _known[same] = total.hexdigest()
    return _known[same]


# -- folders ---------------------------------------------------------------------------------


def seal(folder: Path, names: Iterable[str] | None = None) -> None:
    """List a folder's files, all or some, with size and hash, once the disk holds them."""
    inside = sorted(_files(folder) if names is None else names)
    for name in inside:
        sync(folder / name)
    for below in {(folder / name).parent for name in inside}:
        sync(below)
    facts = {name: _facts(folder / name) for name in counted(inside, "cache", "files")}
    write_json(folder / MANIFEST, facts)


def damaged(folder: Path) -> list[str]:
    """The names of a sealed folder's files that are not what they were; empty if it is whole."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        inside = counted(list(listed.items()), "cache", "files")
        return [name for name, facts in inside if _differs(folder / name, facts)]
    except (OSError, ValueError, AttributeError):
        return [MANIFEST]


def vouched(folder: Path, names: Sequence[str]) -> set[str]:
    """What is known to be whole directly in a folder of which some files, ``names``, are damaged.

    A folder inside goes with each of its files; without the list only tensors speak for themselves.
    """
    if MANIFEST in names:
        return {path.name for path in folder.glob("*.safetensors") if tensors.is_whole(path)}
    listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    lost = {name.partition("/")[0] for name in (*names, "inputs.json")}
    return {name.partition("/")[0] for name in listed} - lost


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return [name for name in names if name != MANIFEST]


def _facts(path: Path) -> list[int | str]:
    return [path.stat().st_size, hash_of(path)]


def _differs(path: Path, facts: object) -> bool:
    try:
        return _facts(path) != facts
    except OSError:
        return True


# -- files that stand for themselves -----------------------------------------------------------


def publish_sealed(path: Path, write: Callable[[Path], object]) -> None:
    """As :func:`spice.storage.files.publish`, with the hash of what was written as a last line."""

    def sealed(partial: Path) -> None:
        write(partial)
        digest = hash_of(partial)
        with partial.open("ab") as file:
            file.write(MARK + digest.encode() + b"\n")

    clear_beside(path)
    publish(path, sealed)


def is_sealed(path: Path) -> bool:
    """Whether a file is there as it was written; it is told of one that is not."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TRAILER))
            trailer = file.read()
        if trailer == MARK + hash_of(path, TRAILER).encode() + b"\n":
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    warn("cache", f"{path} is damaged: made again")
    return False


def read_sealed(path: Path) -> bytes | None:
    """What :func:`publish_sealed` wrote; None if it is not there, or not as it was written."""
    return path.read_bytes()[:-TRAILER] if is_sealed(path) else None


def is_whole_checkpoint(path: Path) -> bool:
    """Whether a file is there that torch can read, and its parts' own checksums hold.

    It is told of one that is damaged; nothing in it is unpickled but tensors and plain values.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
        if whole:
            torch.load(path, map_location="cpu", weights_only=True)
            return True
    except FileNotFoundError:
        return False
    except Exception as error:  # each damaged field of an archive has an error of its own
        if disk.refusal(error) is not None:
            raise
    warn("cache", f"{path} is damaged: made again")
    return False
