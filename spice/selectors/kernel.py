"""Inner products of gradients, K = GGᵀ in float64: held whole, or column by column."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


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


def gram_kernel(gradients: np.ndarray, block: int = 4096) -> Kernel:
    """The whole of K in float64, summed over blocks of coordinates: n² × 8 bytes."""
    n, d = gradients.shape
    gram = np.zeros((n, n))
    for start in range(0, d, block):
        part = gradients[:, start : start + block].astype(np.float64)
        gram += part @ part.T
    return Kernel(np.diagonal(gram).copy(), lambda x: gram[x], first_copies(gradients))


def streaming_kernel(gradients: np.ndarray, block: int = 1024) -> Kernel:
    """K column by column, for pools whose K would not fit: one pass over G per pick."""
    n = len(gradients)
    blocks = [slice(i, i + block) for i in range(0, n, block)]

    def column(x: int) -> np.ndarray:
        pick, values = gradients[x].astype(np.float64), np.empty(n)
        for rows in blocks:
            values[rows] = gradients[rows].astype(np.float64) @ pick
        return values

    squares = np.empty(n)
    for rows in blocks:
        squares[rows] = np.square(gradients[rows], dtype=np.float64).sum(axis=1)
    return Kernel(squares, column, first_copies(gradients))


def first_copies(gradients: np.ndarray) -> np.ndarray:
    """For each row the position of the first that equals it, number by number."""
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(row + 0.0, digest_size=16).digest() for row in gradients)  # no -0.0
    return np.array([seen.setdefault(key, x) for x, key in enumerate(digests)], dtype=np.int64)
