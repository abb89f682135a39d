"""What a disk refuses, as one line for the user."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from spice.errors import InputError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: the disk's own, wherever in an error's causes they are
FAILED = FULL | {errno.EROFS, errno.EIO, errno.ESTALE}
#: what may have other reasons, if it is the error itself
REFUSED = FAILED | {
    errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
#: how libraries tell of it that keep the system's number to themselves: numpy, torch
CUT_SHORT = re.compile(
    r"^\d+ requested and \d+ written|PytorchStreamWriter failed|unexpected pos \d+ vs \d+"
)
#: how those written in Rust (safetensors) and shutil, of many files, tell of it
NUMBERED = re.compile(r"(?:\(os error |\[Errno )(\d+)[)\]]")


def refusal(error: BaseException, folder: Path | None = None) -> str | None:
    """What the disk refused if that is behind an error, in one line; None if it is not.

    ``folder`` is where it was, for errors that do not say. An :class:`InputError` says enough.
    """
    if isinstance(error, InputError):
        return None
    for cause in _causes(error):
        number = _number(cause)
        if number is not None and number in (REFUSED if cause is error else FAILED):
            named = cause.filename if isinstance(cause, OSError) else None
            where = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else folder
            ways = "choose another place by cache_dir=… or hydra.run.dir=…"
            if number in FULL:
                ways = f"make room, or {ways}; what is whole stays, and is gone on from"
            return f"{where or 'the run folder'}: {why(number, where)}; {ways}"
    return None


def why(number: int | None, where: Path | None) -> str:
    """The system's words for an error's number, and how full the disk is if that is it."""
    told = os.strerror(number or 0)
    return f"{told} ({free(where)})" if number in FULL and where else told


def free(path: Path) -> str:
    """How much space there is where a file or folder is, or would be."""
    there = next((p for p in (path, *path.absolute().parents) if p.exists()), Path())
    usage = shutil.disk_usage(there)
    return f"{size(usage.free)} free of {size(usage.total)}"


def size(count: float) -> str:
    """Bytes in a unit that says something: ``37.0 kB``, ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            break
        count, unit = count / 1000, {"bytes": "kB", "kB": "MB", "MB": "GB", "GB": "TB"}[unit]
    return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if told := NUMBERED.search(str(error)):
        return int(told[1])
    return errno.ENOSPC if CUT_SHORT.search(str(error)) else None
