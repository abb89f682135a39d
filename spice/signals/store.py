"""A store of one vector per row, in shards that are either whole or absent.

A shard's name is the hash of what it holds (the store's metadata and its rows' ids), it is written
beside its place and renamed into it, and it carries the metadata's hash inside: what a crash left
unfinished is simply not there, and what belongs to another run is never read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spice.errors import InputError


class ShardStore:
    """n × d float32 values in ``folder``; ``plan[s]`` lists the positions of shard s's rows.

    ``metadata`` says what the values are; opening a folder that was made with other metadata is an
    :class:`InputError` naming the keys that differ.
    """

    def __init__(
        self,
        folder: Path,
        metadata: dict[str, Any],
        ids: Sequence[str],
        plan: Sequence[np.ndarray],
        dimension: int,
    ) -> None:
        self.folder = folder
        self.plan = list(plan)
        self.dimension = dimension
        self.n = len(ids)
        self._shard_of = {int(row): s for s, rows in enumerate(plan) for row in rows}
        self._metadata = json.loads(json.dumps({**metadata, "dimension": dimension}))
        self._digest = _digest(self._metadata)
        self._names = [_digest([self._digest, [ids[row] for row in rows]]) for rows in plan]

    def open(self) -> None:
        """Create the folder, or check that it was made for the same values."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob("*.partial-*"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)
        record = self.folder / "metadata.json"
        if not record.is_file():
            publish(record, lambda path: path.write_text(json.dumps(self._metadata, indent=2)))
            return
        found = json.loads(record.read_text())
        if found != self._metadata:
            keys = {k for k in {*found, *self._metadata} if found.get(k) != self._metadata.get(k)}
            raise InputError(
                f"{self.folder}: this store was made with other metadata "
                f"({', '.join(sorted(keys))} differ); delete it or choose another cache_dir"
            )

    def check_space(self) -> None:
        """Refuse to begin what the disk cannot hold."""
        needed = sum(len(self.plan[s]) for s in self.missing()) * self.dimension * 4
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"{self.folder}: the store needs {needed / 1e9:.1f} GB "
                f"({self.n:,} rows × {self.dimension:,} × 4 bytes), {free / 1e9:.1f} GB are free"
            )

    def shard_of(self, row: int) -> int:
        """The shard that holds a row."""
        return self._shard_of[row]

    def missing(self) -> list[int]:
        """Shards still to be written."""
        return [s for s in range(len(self.plan)) if not self._is_whole(s)]

    def write(self, shard: int, values: np.ndarray) -> None:
        """Publish one shard: ``values`` has a row for each of ``plan[shard]``."""
        from safetensors.numpy import save_file

        shape = (len(self.plan[shard]), self.dimension)
        if values.shape != shape:
            raise ValueError(f"shard {shard} must have the shape {shape}, not {values.shape}")
        tensors = {"values": np.ascontiguousarray(values, dtype=np.float32)}
        marks = {"metadata": self._digest}
        publish(self._path(shard), lambda path: save_file(tensors, path, metadata=marks))

    def read(self) -> np.ndarray:
        """All values, n × d float32; rows of no shard are NaN, lest anybody take them for zero."""
        from safetensors import safe_open

        values = np.full((self.n, self.dimension), np.nan, dtype=np.float32)
        for shard, rows in enumerate(self.plan):
            with safe_open(self._path(shard), framework="np") as file:
                values[rows] = file.get_tensor("values")
        return values

    def rows(self) -> StoredRows:
        """All values, read from disk as they are asked for."""
        shards = [_mapped(self._path(shard)) for shard in range(len(self.plan))]
        return StoredRows(shards, self.plan, self.n, self.dimension)

    def bytes(self) -> int:
        """The size of all shards on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def _path(self, shard: int) -> Path:
        return self.folder / f"{self._names[shard]}.safetensors"

    def _is_whole(self, shard: int) -> bool:
        from safetensors import SafetensorError, safe_open

        path = self._path(shard)
        if not path.is_file():
            return False
        try:
            with safe_open(path, framework="np") as file:
                shape = file.get_slice("values").get_shape()
                marked = (file.metadata() or {}).get("metadata")
        except (SafetensorError, OSError):
            return False  # damaged on disk: it is made again
        return marked == self._digest and shape == [len(self.plan[shard]), self.dimension]


class StoredRows:
    """n × d float32 values on disk; rows of no shard are NaN, lest anybody take them for zero."""

    dtype = np.dtype(np.float32)

    def __init__(
        self, shards: Sequence[np.ndarray], plan: Sequence[np.ndarray], n: int, dimension: int
    ) -> None:
        self.shards = shards
        self.shape = (n, dimension)
        self._shard = np.full(n, -1)
        self._place = np.zeros(n, dtype=np.int64)
        for s, rows in enumerate(plan):
            self._shard[rows], self._place[rows] = s, np.arange(len(rows))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> np.ndarray:
        rows, columns = which if isinstance(which, tuple) else (which, slice(None))
        shard, place = self._shard[rows], self._place[rows]
        width = len(range(*columns.indices(self.shape[1])))
        found = np.full((len(shard), width), np.nan, dtype=self.dtype)
        for s in np.unique(shard[shard >= 0]):
            here = np.flatnonzero(shard == s)
            found[here] = self.shards[s][place[here], columns]
        return found


def _mapped(path: Path) -> np.ndarray:
    """A shard's values, mapped into memory: behind the header's length and the header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))["values"]
    offset = 8 + length + header["data_offsets"][0]
    return np.memmap(path, np.float32, "r", offset, tuple(header["shape"]))


def publish(path: Path, write: Any) -> None:
    """Write beside ``path``, flush to disk, then rename: readers see all of it or nothing.

    One writer at a time has a store's folder; :mod:`spice.stages` sees to that.
    """
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
