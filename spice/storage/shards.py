"""A store of one vector per row, in shards that are either whole or absent.

A shard's name is the hash of what it holds (the store's metadata and its rows' ids), it is written
beside its place and renamed into it, and it carries the metadata's hash inside: what a crash left
unfinished is simply not there, and what belongs to another run is never read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spice.errors import InputError
from spice.storage.coding import CODINGS, Coding, Tensors, row_bytes, stored_as
from spice.storage.files import publish, short_hash
from spice.storage.rows import KnownRows

NAMES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8}
AT_A_TIME = 2**16  # numbers that are decoded, few enough to stay in the processor's cache


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
        about = {**metadata, "dimension": dimension, **stored_as(dtype)}
        self._metadata = json.loads(json.dumps(about))
        self._digest = _digest(self._metadata)
        self._names = [_digest([self._digest, [ids[row] for row in rows]]) for rows in plan]

    def open(self) -> None:
        """Create the folder, or check that it was made for the same values.

        Raises:
            InputError: the folder was made with other metadata; the keys that differ are named.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob("*.partial-*"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)
        record = self.folder / "metadata.json"
        if not record.is_file():
            publish(
                record,
                lambda path: path.write_text(
                    json.dumps(self._metadata, indent=2), encoding="utf-8"
                ),
            )
            return
        found = json.loads(record.read_text(encoding="utf-8"))
        if found != self._metadata:
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
                f"{self.folder}: the store needs {needed / 1e9:.1f} GB "
                f"({self.n:,} rows × {self.dimension:,} coordinates in {self.dtype}), "
                f"{free / 1e9:.1f} GB are free"
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
        tensors = self.coding.encode(np.asarray(values, dtype=np.float32))
        marks = {"metadata": self._digest}
        publish(self._path(shard), lambda path: _save(tensors, path, marks))

    def read(self) -> np.ndarray:
        """All values, n × d float32; rows of no shard are NaN, lest anybody take them for zero."""
        return self.rows()[:]

    def rows(self) -> StoredRows:
        """All values, read from disk as they are asked for."""
        shards = [_mapped(self._path(shard)) for shard in range(len(self.plan))]
        return StoredRows(self.coding, shards, self.plan, self.n, self.dimension)

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
                names = file.keys()
                slices = {name: file.get_slice(name) for name in names}
                found = {
                    name: (NAMES.get(part.get_dtype()), part.get_shape())
                    for name, part in slices.items()
                }
                marked = (file.metadata() or {}).get("metadata")
        except (SafetensorError, OSError):
            return False  # damaged on disk: it is made again
        rows = len(self.plan[shard])
        layout = self.coding.layout(self.dimension)
        expected = {name: (kind, [rows, width]) for name, (kind, width) in layout.items()}
        return marked == self._digest and found == expected


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


def _save(tensors: dict[str, np.ndarray], path: Path, marks: dict[str, str]) -> None:
    """Write a shard; numbers of 16 bits without a sign are bfloat16, which numpy does not know."""
    if all(values.dtype != np.uint16 for values in tensors.values()):
        from safetensors.numpy import save_file

        save_file(tensors, path, metadata=marks)
        return
    import torch
    from safetensors.torch import save_file as save_torch

    signed = {name: torch.from_numpy(values.view(np.int16)) for name, values in tensors.items()}
    save_torch({name: v.view(torch.bfloat16) for name, v in signed.items()}, path, metadata=marks)


def _mapped(path: Path) -> dict[str, np.ndarray]:
    """A shard's tensors, mapped into memory: behind the header's length and the header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    whole, found = np.memmap(path, np.uint8, "r", 8 + length), {}
    for name, part in header.items():
        if name != "__metadata__":
            values = whole[slice(*part["data_offsets"])].view(NAMES[part["dtype"]])
            found[name] = values.reshape(part["shape"])
    return found


def _digest(value: Any) -> str:
    return short_hash(json.dumps(value, sort_keys=True).encode())
