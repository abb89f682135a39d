"""Inner products of gradients, K = GGᵀ in float64: held whole, or column by column."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from spice.progress import counted
from spice.storage.rows import KnownRows

HELD = 2**22  # numbers in hand at a time: of 16 MB the allocator keeps the pages
MANY = 2**26  # numbers from which on torch is faster, its import included


class Rows(Protocol):
    """n × d numbers that are read as they are asked for: an array, or a store on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """n and d."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """What a row's numbers come as."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, which: Any) -> np.ndarray:
        """Some of the rows, in order; with a second slice, of their columns."""
        ...


@dataclass(frozen=True)
class Subset(KnownRows):
    """Rows ``which`` (m) of others: m × d numbers without a copy of them."""

    whole: Rows
    which: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """As many as were asked for."""
        return len(self.which), self.whole.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The same."""
        return self.whole.dtype

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, which: Any) -> np.ndarray:
        if isinstance(which, tuple):
            return self.whole[self.which[which[0]], which[1]]
        return self.whole[self.which[which]]

    def known_squares(self) -> np.ndarray | None:
        """Their ‖g‖², m, if known."""
        known = self.whole.known_squares() if isinstance(self.whole, KnownRows) else None
        return None if known is None else known[self.which]

    def known_products(self) -> np.ndarray | None:
        """Their K, m × m, if known."""
        known = known_products(self.whole)
        return None if known is None else known[np.ix_(self.which, self.which)]


@dataclass(frozen=True)
class Kernel:
    """The inner products of n gradients: ``column(x)`` is K_·x (n), ``diagonal`` is ‖g‖² (n).

    ``alike`` (n) is the position of each row's first exact copy, its own if there is none before.
    """

    diagonal: np.ndarray
    column: Callable[[int], np.ndarray]
    alike: np.ndarray

    def __len__(self) -> int:
        return len(self.diagonal)


def known_products(gradients: Rows) -> np.ndarray | None:
    """K (n × n), where rows come with it: it does not depend on α, λ or ω."""
    return gradients.known_products() if isinstance(gradients, KnownRows) else None


def products(gradients: Rows, block: int = 4096) -> np.ndarray:
    """K = GGᵀ (n × n, float64), summed over blocks of coordinates."""
    n, d = gradients.shape
    total = np.zeros((n, n))
    with np.errstate(invalid="ignore"):
        for start in counted(range(0, d, block), "products", "blocks"):
            part = gradients[:, start : start + block].astype(np.float64)
            total += part @ part.T
    return total


def gram_kernel(gradients: Rows, block: int = 4096, squares: np.ndarray | None = None) -> Kernel:
    """The whole of K for n × d ``gradients``: n² × 8 bytes.

    ``squares`` (n) are the rows' ‖g‖², where these are known better than by their sums.
    """
    known = known_products(gradients)
    gram = products(gradients, block) if known is None else known
    alike = first_copies(gradients, squared_norms(gradients) if squares is None else squares)
    diagonal = np.diagonal(gram).copy() if squares is None else squares
    return Kernel(diagonal, lambda x: gram[x], alike)


def row_blocks(gradients: Rows) -> list[slice]:
    """All rows of n × d ``gradients``, cut into blocks to be read one after the other."""
    n, d = gradients.shape
    size = max(1, HELD // max(d, 1))
    return [slice(i, i + size) for i in range(0, n, size)]


def inner_products(gradients: Rows, these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """g_x · g_y of ``these`` (m) rows and ``those`` (q), m × q, over blocks of both.

    Float32's products are summed up in float32 over 4,096 coordinates, and then in float64.
    """
    if (known := known_products(gradients)) is not None:
        return known[np.ix_(these, those)]
    found, d, block = np.zeros((len(these), len(those))), gradients.shape[1], 4096
    kind = np.result_type(gradients.dtype, np.float32)
    for start in range(0, d, block):
        columns = slice(start, start + block)
        left = gradients[these, columns].astype(kind)
        for i in range(0, len(those), block):
            right = gradients[those[i : i + block], columns].astype(kind)
            found[:, i : i + block] += left @ right.T
    return found


def streaming_kernel(
    gradients: Rows, block: int = 1024, squares: np.ndarray | None = None
) -> Kernel:
    """K column by column, for pools whose K would not fit: one pass over G per pick.

    ``gradients`` are n × d, ``squares`` (n) their ‖g‖², if known.
    """
    n = len(gradients)
    blocks = [slice(i, i + block) for i in range(0, n, block)]

    def column(x: int) -> np.ndarray:
        pick, values = gradients[x : x + 1][0].astype(np.float64), np.empty(n)
        for rows in blocks:
            values[rows] = gradients[rows].astype(np.float64) @ pick
        return values

    squares = squared_norms(gradients) if squares is None else squares
    return Kernel(squares, column, first_copies(gradients, squares))


def squared_norms(gradients: Rows) -> np.ndarray:
    """‖g‖² of n × d ``gradients``, n, infinite where float64 does not reach that far."""
    known = gradients.known_squares() if isinstance(gradients, KnownRows) else None
    if known is not None:
        return known
    n, d = gradients.shape
    squares = np.zeros(n)
    sums = _sums_of_squares if n * d < MANY else _sums_of_squares_by_torch
    with np.errstate(over="ignore"):
        for rows in counted(row_blocks(gradients), "norms", "blocks"):
            squares[rows] = sums(gradients[rows])
    return squares


def _sums_of_squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)


def _sums_of_squares_by_torch(rows: np.ndarray) -> np.ndarray:
    """On all cores; worth importing torch for where there is much to read."""
    import torch

    total = torch.zeros(len(rows), dtype=torch.float64)
    rows = rows if rows.flags.writeable else rows.copy()  # torch takes no other
    for part in torch.from_numpy(rows).split(max(2048, 2**18 // max(len(rows), 1)), dim=1):
        total += part.double().square_().sum(dim=1)
    return total.numpy()


def first_copies(gradients: Rows, squares: np.ndarray) -> np.ndarray:
    """The position of the first row that equals it, number by number, for each of n × d; n.

    Copies have the same ‖g‖² (``squares``, n), so only rows that share theirs with another are
    compared.
    """
    _, kind, count = np.unique(squares, return_inverse=True, return_counts=True)
    alike = np.arange(len(squares))
    seen: dict[bytes, int] = {}
    for x in np.flatnonzero(count[kind] > 1):
        key = hashlib.blake2b((gradients[x : x + 1] + 0.0).data, digest_size=16).digest()  # no -0.0
        alike[x] = seen.setdefault(key, int(x))
    return alike
