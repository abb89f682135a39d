"""A model's files on disk: their hash, and whether all weights are numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from spice.errors import InputError
from spice.progress import progress
from spice.storage import disk
from spice.storage.files import short_hash
from spice.storage.seals import publish_sealed, read_sealed

FILES = ("*.safetensors", "*.json", "*.jinja")  # all that is ever fetched or read
MB = 10**6
CHUNK = 16 * MB


def digest_of(folder: Path, memo: Path) -> str:
    """A hash of all files that decide what a model computes; refuses weights with NaN.

    Reading many gigabytes twice a day is dear, so the answer is kept under ``memo`` for as long as
    no file's size or time of change differs (both of its times: archives and ``cp -p`` put the
    first one back).

    Raises:
        InputError: a weight is not finite, or ``memo`` cannot be written.
    """
    files = sorted(path for pattern in FILES for path in folder.glob(pattern))
    stats = [(str(path), *_identity(path)) for path in files]
    record = memo / f"{short_hash(json.dumps(stats).encode())}.json"
    if (known := read_sealed(record)) is not None:
        return json.loads(known)["digest"]
    check_finite(folder)
    total = hashlib.sha256()
    with _counting(files) as tell:
        for path in files:
            total.update(path.name.encode() + _hash_of(path, tell))
    digest = total.hexdigest()[:16]
    _remember(record, digest, folder)
    return digest


def check_finite(folder: Path) -> None:
    """Refuse a folder's weights if one of them is infinite or no number, or cannot be read.

    Raises:
        InputError: so it is.
    """
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    with _counting(files) as tell:
        for path in files:
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 (not a dict)
                        weight = file.get_tensor(name)
                        if not weight.isfinite().all():
                            held = f"the weight {name} holds NaN or infinite values"
                            raise InputError(f"{path}: {held}")
                        tell(weight.nbytes)
            except SafetensorError as error:
                raise InputError(f"{path}: not a readable safetensors file: {error}") from error


def _hash_of(path: Path, tell: Callable[[int], None]) -> bytes:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            found.update(part)
            tell(len(part))
    return found.digest()


@contextmanager
def _counting(files: Sequence[Path]) -> Iterator[Callable[[int], None]]:
    """Have it known how much of some files is read, by calls with the size of each part."""
    read = 0
    with progress("weights", sum(path.stat().st_size for path in files) // MB, "MB") as tell:

        def told(size: int) -> None:
            nonlocal read
            before, read = read, read + size
            tell(read // MB - before // MB)

        yield told


def _remember(record: Path, digest: str, folder: Path) -> None:
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        told = json.dumps({"digest": digest, "folder": str(folder)}, ensure_ascii=False)
        publish_sealed(record, lambda path: path.write_text(told, encoding="utf-8"))
    except OSError as error:
        why = disk.why(error.errno, record.parent)
        raise InputError(f"cache_dir: {record.parent} cannot be written: {why}") from error


def _identity(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
