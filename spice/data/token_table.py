"""A pool's tokens on disk: flat arrays, mapped into memory, of which examples are made when asked.

Four bytes a token and some thirty a row, where lists of Python's numbers take ten times as much.
Another process that is sent a table opens the same files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from spice.data.rendering import Example
from spice.storage.files import write_array

IDS = "ids.int32"


class Packed(NamedTuple):
    """Some examples' tokens one behind the other (t), and of each example (n each) what it is.

    ``gaps`` are g × 2, as many of each example as ``gap_counts`` says.
    """

    ids: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray
    supervised: np.ndarray
    truncated: np.ndarray
    gap_counts: np.ndarray
    gaps: np.ndarray


def pack(examples: Sequence[Example]) -> Packed:
    """n examples as arrays."""
    gaps = [gap for example in examples for gap in example.gaps]
    return Packed(
        np.array([token for example in examples for token in example.ids], dtype=np.int32),
        np.array([len(example.ids) for example in examples], dtype=np.int32),
        np.array([example.start for example in examples], dtype=np.int32),
        np.array([example.supervised for example in examples], dtype=np.int32),
        np.array([example.truncated for example in examples], dtype=bool),
        np.array([len(example.gaps) for example in examples], dtype=np.int32),
        np.array(gaps, dtype=np.int32).reshape(-1, 2),
    )


def write_table(folder: Path, parts: Iterator[Packed]) -> None:
    """Write a table of examples that come in parts, n in all, with no more than one in memory."""
    kept: list[Packed] = []
    with (folder / IDS).open("wb") as file:
        for part in parts:
            part.ids.tofile(file)
            kept.append(part._replace(ids=part.ids[:0]))
    for name in Packed._fields[1:]:
        found = [getattr(part, name) for part in kept]
        write_array(folder / f"{name}.npy", np.concatenate(found) if found else np.zeros(0))


class TokenTable(Sequence[Example]):
    """The n examples that :func:`write_table` wrote; ``lengths`` and ``supervised`` count tokens.

    Both are arrays of n, without an example being made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        read = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in Packed._fields[1:]}  # fmt: skip
        self.lengths: np.ndarray = read["lengths"]
        self.supervised: np.ndarray = read["supervised"]
        self._starts, self._truncated = read["starts"], read["truncated"]
        self._gaps = read["gaps"]
        self._ends = np.cumsum(self.lengths, dtype=np.int64)
        self._gap_ends = np.cumsum(read["gap_counts"], dtype=np.int64)
        self._gap_counts = read["gap_counts"]
        some = len(self.lengths) > 0 and self._ends[-1] > 0  # nothing cannot be mapped
        self._ids = np.memmap(folder / IDS, np.int32, "r") if some else np.zeros(0, np.int32)

    def __reduce__(self) -> tuple[Any, ...]:
        """Where it is."""
        return TokenTable, (self.folder,)

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, row: int) -> Example: ...
    @overload
    def __getitem__(self, row: slice) -> list[Example]: ...
    def __getitem__(self, row: int | slice) -> Example | list[Example]:
        if isinstance(row, slice):
            return [self._example(i) for i in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._example(row % len(self))

    def _example(self, row: int) -> Example:
        end, gap_end = int(self._ends[row]), int(self._gap_ends[row])
        gaps = self._gaps[gap_end - self._gap_counts[row] : gap_end]
        return Example(
            self._ids[end - self.lengths[row] : end].tolist(),
            int(self._starts[row]),
            bool(self._truncated[row]),
            tuple((a, b) for a, b in gaps.tolist()),
        )


def lengths(examples: Sequence[Example]) -> np.ndarray:
    """Tokens of each of n examples, n."""
    if isinstance(examples, TokenTable):
        return np.asarray(examples.lengths)
    return np.array([len(example.ids) for example in examples], dtype=np.int64)


def supervised(examples: Sequence[Example]) -> np.ndarray:
    """Supervised tokens of each of n examples, n."""
    if isinstance(examples, TokenTable):
        return np.asarray(examples.supervised)
    return np.array([example.supervised for example in examples], dtype=np.int64)


def eligible_rows(examples: Sequence[Example]) -> list[int]:
    """Rows with something to learn from."""
    return np.flatnonzero(supervised(examples)).tolist()
