"""Rows in fewer bits: numbers g of a row are stored as q, some with a scale s per block of columns.

    float32    q = g
    bfloat16   q = g to 8 significant bits             |ĝ − g| ≤ 2⁻⁸ |g|, or 2⁻¹³⁴
    float16    q = g/s to 11 significant bits          |ĝ − g| ≤ 2⁻¹¹ |g|, or 2⁻³⁹ max|g|
    int8       q = g/s to a whole number, ĝ = q s      |ĝ − g| ≤ s/2

all to nearest. max|g| is over the :data:`BLOCK` columns of a row that share s. For float16 s is a
power of two, so that nothing is rounded twice, and brings max|g| close below 2¹⁵, far from where
float16 ends on either side; for int8 s = max|g|/127, at least 2⁻¹²⁶. Rows are coded one by one:
equal ones stay equal, zeros stay zero, and a block with a number that is not finite is read as NaN.
Numbers within a rounding of float32's largest may become infinite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import numpy as np

BLOCK = 256  # columns; experiments/performance/LOG.md has the error of other widths
TINY = np.finfo(np.float32).tiny

Tensors = Mapping[str, np.ndarray]


class Coding(Protocol):
    """Turns n × d float32 rows into named tensors of n rows, and back."""

    def layout(self, d: int) -> dict[str, tuple[np.dtype, int]]:
        """Each tensor's type, as numpy has it, and its numbers per row of d."""
        ...

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """The tensors of n × d float32 ``values``."""
        ...

    def decode(self, tensors: Tensors, rows: np.ndarray, columns: slice) -> np.ndarray:
        """``rows`` (m) and some consecutive columns of what was encoded, in float32."""
        ...


class Float32:
    """The n × d numbers themselves."""

    def layout(self, d: int) -> dict[str, tuple[np.dtype, int]]:
        """One tensor."""
        return {"values": (np.dtype(np.float32), d)}

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """As they are."""
        return {"values": np.ascontiguousarray(values)}

    def decode(self, tensors: Tensors, rows: np.ndarray, columns: slice) -> np.ndarray:
        """As they are."""
        return tensors["values"][rows, columns]


class BFloat16:
    """The upper half of the bits of n × d numbers, rounded.

    They are kept as uint16, since numpy knows no bfloat16.
    """

    def layout(self, d: int) -> dict[str, tuple[np.dtype, int]]:
        """One tensor."""
        return {"values": (np.dtype(np.uint16), d)}

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Ties go to the even one; NaN, whose bits could overflow, is a bit pattern of its own."""
        kept = np.empty(values.shape, np.uint16)
        for row, into in zip(values, kept, strict=True):
            bits = np.ascontiguousarray(row).view(np.uint32)
            into[:] = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
            into[np.isnan(row)] = 0x7FC0
        return {"values": kept}

    def decode(self, tensors: Tensors, rows: np.ndarray, columns: slice) -> np.ndarray:
        """The lower half is zero."""
        bits = tensors["values"][rows, columns].astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)


class Blocks(ABC):
    """Numbers of few bits, n × d, and a scale for each block of columns: n × ⌈d/:data:`BLOCK`⌉."""

    kind: np.dtype

    @abstractmethod
    def scales(self, largest: np.ndarray) -> np.ndarray:
        """s of m blocks from their max|g|, m."""

    @abstractmethod
    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """q of g/s for a row of d numbers."""

    def widened(self, stored: np.ndarray) -> np.ndarray:
        """q, m × d or fewer columns, in a type that is quick to multiply."""
        return stored

    def layout(self, d: int) -> dict[str, tuple[np.dtype, int]]:
        """Numbers and scales."""
        return {"values": (self.kind, d), "scales": (np.dtype(np.float32), -(-d // BLOCK))}

    def encode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Row by row, which needs little memory beside what it makes."""
        n, d = values.shape
        starts = np.arange(0, d, BLOCK)
        kept = np.empty((n, d), self.kind)
        scales = np.empty((n, len(starts)), np.float32)
        for row, into, s in zip(values, kept, scales, strict=True):
            largest = np.maximum.reduceat(np.abs(row), starts)
            finite = np.isfinite(largest)
            s[:] = np.where(finite, self.scales(np.where(finite, largest, 0)), np.nan)
            spread = np.repeat(s, BLOCK)[:d]
            into[:] = self.rounded(np.where(np.isnan(spread), 0, row) / np.fmax(spread, TINY))
        return {"values": kept, "scales": scales}

    def decode(self, tensors: Tensors, rows: np.ndarray, columns: slice) -> np.ndarray:
        """Scales are spread over the columns first: a product block by block takes longer."""
        stored, first = tensors["values"][rows, columns], columns.start // BLOCK
        scales = tensors["scales"][rows, first : -(-columns.stop // BLOCK)]
        found = np.repeat(scales, BLOCK, axis=1)[:, columns.start - first * BLOCK :]
        found = found[:, : stored.shape[1]]
        found *= self.widened(stored)
        return found


class Float16(Blocks):
    """Eleven significant bits of each of n × d numbers."""

    kind = np.dtype(np.float16)

    def scales(self, largest: np.ndarray) -> np.ndarray:
        """The powers of two, m, that bring ``largest`` m into [2¹⁴, 2¹⁵)."""
        return np.ldexp(np.float32(1), np.maximum(np.frexp(largest)[1] - 15, -126))

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """To the nearest float16."""
        return numbers.astype(np.float16)

    def widened(self, stored: np.ndarray) -> np.ndarray:
        """By moving bits, which takes half of numpy's own time: all here are finite."""
        bits = stored.view(np.int16).astype(np.int32)
        bits <<= 13
        bits &= -0x70000001  # of the sign's four copies the first
        found = bits.view(np.float32)
        found *= np.float32(2**112)  # the difference of the exponents' biases
        return found


class Int8(Blocks):
    """Whole numbers from −127 to 127, n × d."""

    kind = np.dtype(np.int8)

    def scales(self, largest: np.ndarray) -> np.ndarray:
        """A 127th of each ``largest``, m, unless that is too small for a full float32."""
        return np.maximum(largest / np.float32(127), TINY)

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """To the nearest whole number."""
        return np.rint(numbers).astype(np.int8)


FLOAT32 = "float32"
CODINGS: dict[str, Coding] = {
    FLOAT32: Float32(),
    "bfloat16": BFloat16(),
    "float16": Float16(),
    "int8": Int8(),
}


def stored_as(dtype: str) -> dict[str, str]:
    """What a store's metadata says of its coding: nothing of float32, as before there were any."""
    return {} if dtype == FLOAT32 else {"stored_as": dtype}


def row_bytes(dtype: str, d: int) -> int:
    """What a row of d numbers takes."""
    return sum(kind.itemsize * width for kind, width in CODINGS[dtype].layout(d).values())


def round_trip(values: np.ndarray, dtype: str) -> np.ndarray:
    """What n × d float32 ``values`` are read as once they were stored."""
    coding, (n, d) = CODINGS[dtype], values.shape
    return coding.decode(coding.encode(values), np.arange(n), slice(0, d))
