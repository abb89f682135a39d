"""A store of one vector per row, in shards that are either whole or absent.

A shard's name is the hash of what it holds (the store's metadata and its rows' ids), it is written
beside its place and renamed into it, and it carries the hashes of metadata and numbers inside: what
a crash left unfinished is simply not there, what belongs to another run is never read, and what was
damaged is missing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spice.errors import InputError
from spice.storage import tensors
from spice.storage.coding import CODINGS, Coding, Tensors, row_bytes, stored_as
from spice.storage.disk import size
from spice.storage.files import publish, short_hash, write_json
from spice.storage.rows import KnownRows
from spice.storage.seals import unchanged

RECORD = "metadata.json"
AT_A_TIME = 2**16  # numbers that are decoded, few enough to stay in the processor's cache


FLOAT = 4  # bytes of a number before it is stored
LARGEST = 2**29  # bytes of a shard, unless one row takes more


class ShardStore:
    """n × d float32 values in ``folder``; ``plan[s]`` lists the positions of shard s's rows.

    ``metadata`` says what the values are. ``dtype`` is what they are stored as, one of
    :data:`spice.storage.coding.CODINGS`.
    """

    def __init__(
        self,
        folder: Path,
        metadata: dict[str, Any],
        ids: Sequence[str],
        plan: Sequence[np.ndarray],
        dimension: int,
        dtype: str,
    ) -> None:
        self.folder = folder
        self.plan = list(plan)
        self.dimension = dimension
        self.dtype = dtype
        self.coding = CODINGS[dtype]
        self.n = len(ids)
        self._shard_of = {int(row): s for s, rows in enumerate(plan) for row in rows}
        known = {**metadata, "dimension": dimension, **stored_as(dtype)}
        self._metadata = json.loads(json.dumps(known))
        self._digest = _digest(self._metadata)
        self._whole: dict[int, tuple[int, ...]] = {}  # shards whose numbers were verified
        self._names = [_digest([self._digest, [ids[row] for row in rows]]) for rows in plan]

    def open(self) -> None:
        """Create the folder, or check that it was made for the same values.

        Raises:
            InputError: the folder was made with other metadata; the keys that differ are named.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob("*.partial-*"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)
        found = about(self.folder)
        if not found:  # a shard is known by the metadata's hash, and needs no record beside it
            write_json(self.folder / RECORD, self._metadata)
        elif found != self._metadata:
            keys = {k for k in {*found, *self._metadata} if found.get(k) != self._metadata.get(k)}
            raise InputError(
                f"{self.folder}: this store was made with other metadata "
                f"({', '.join(sorted(keys))} differ); delete it or choose another cache_dir"
            )

    def check_space(self) -> None:
        """Refuse to begin what the disk cannot hold.

        Raises:
            InputError: less is free than the missing shards take.
        """
        needed = self.bytes_of(self.missing())
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"{self.folder}: the store needs {size(needed)} "
                f"({self.n:,} rows × {self.dimension:,} coordinates in {self.dtype}), "
                f"{size(free)} are free; choose another cache_dir or make room"
            )

    def bytes_of(self, shards: Sequence[int]) -> int:
        """What some shards' values take on disk."""
        return sum(len(self.plan[s]) for s in shards) * row_bytes(self.dtype, self.dimension)

    def shard_of(self, row: int) -> int:
        """The shard that holds a row."""
        return self._shard_of[row]

    def missing(self) -> list[int]:
        """Shards still to be written."""
        return [s for s in range(len(self.plan)) if not self._is_whole(s)]

    def write(self, shard: int, values: np.ndarray) -> None:
        """Publish one shard: ``values`` has a row for each of ``plan[shard]``.

        Raises:
            ValueError: ``values`` are not of the shard's rows × d.
        """
        shape = (len(self.plan[shard]), self.dimension)
        if values.shape != shape:
            raise ValueError(f"shard {shard} must have the shape {shape}, not {values.shape}")
        encoded = self.coding.encode(np.asarray(values, dtype=np.float32))
        publish(self._path(shard), lambda path: tensors.save(encoded, path, self._digest))

    def read(self) -> np.ndarray:
        """All values, n × d float32; rows of no shard are NaN, lest anybody take them for zero."""
        return self.rows()[:]

    def rows(self) -> StoredRows:
        """All values, read from disk as they are asked for."""
        shards = [tensors.mapped(self._path(shard))[0] for shard in range(len(self.plan))]
        return StoredRows(self.coding, shards, self.plan, self.n, self.dimension)

    def bytes(self) -> int:
        """The size of all shards on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def _path(self, shard: int) -> Path:
        return self.folder / f"{self._names[shard]}.safetensors"

    def _is_whole(self, shard: int) -> bool:
        """Whether a shard is there as it was written; while it stays the same it is read once."""
        path = self._path(shard)
        if shard in self._whole and path.is_file() and self._whole[shard] == unchanged(path):
            return True
        found = tensors.read(path)
        if found is None:
            return False  # absent, or damaged on disk: it is made again
        values, made_for = found
        rows = len(self.plan[shard])
        layout = self.coding.layout(self.dimension)
        expected = {name: (kind, (rows, width)) for name, (kind, width) in layout.items()}
        shapes = {name: (part.dtype, part.shape) for name, part in values.items()}
        if made_for != self._digest or shapes != expected:
            return False
        self._whole[shard] = unchanged(path)
        return True


def shard_size(rows: int, dimension: int) -> int:
    """Of so many rows at most: as many as have room in memory while they are made, one at least."""
    return min(rows, max(LARGEST // (FLOAT * dimension), 1))


def about(folder: Path) -> dict[str, Any]:
    """A store's metadata; nothing where there is no store, or its record is damaged."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class StoredRows(KnownRows):
    """n × d float32 values on disk; rows of no shard are NaN, lest anybody take them for zero.

    ``shards`` are mapped into memory; rows are decoded as they are asked for. ``squares`` are their
    ‖g‖² and ``products`` their K (n × n), where these are known.
    """

    dtype = np.dtype(np.float32)
    squares: np.ndarray | None = None
    products: np.ndarray | None = None

    def __init__(
        self,
        coding: Coding,
        shards: Sequence[Tensors],
        plan: Sequence[np.ndarray],
        n: int,
        dimension: int,
    ) -> None:
        self.coding = coding
        self.shards = shards
        self.shape = (n, dimension)
        self._shard = np.full(n, -1)
        self._place = np.zeros(n, dtype=np.int64)
        for s, rows in enumerate(plan):
            self._shard[rows], self._place[rows] = s, np.arange(len(rows))

    def known_squares(self) -> np.ndarray | None:
        """‖g‖², n, once they are set."""
        return self.squares

    def known_products(self) -> np.ndarray | None:
        """K, n × n, once it is set."""
        return self.products

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> np.ndarray:
        rows, columns = which if isinstance(which, tuple) else (which, slice(None))
        start, stop, step = columns.indices(self.shape[1])
        if step != 1:
            return self[rows][:, columns]
        shard, place = self._shard[rows], self._place[rows]
        width = max(0, stop - start)
        found = np.empty((len(shard), width), dtype=self.dtype)
        found[shard < 0] = np.nan
        size = max(1, AT_A_TIME // max(width, 1))
        for s in np.unique(shard[shard >= 0]) if width else ():
            here = np.flatnonzero(shard == s)
            for part in (here[i : i + size] for i in range(0, len(here), size)):
                decoded = self.coding.decode(self.shards[s], place[part], slice(start, stop))
                found[part] = decoded
        return found


def _digest(value: Any) -> str:
    return short_hash(json.dumps(value, sort_keys=True).encode())
