"""What a selector sees of the gradients: as they are, at one length, or the longest cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spice.storage.rows import KnownRows
from spice.submodular.kernel import Rows, known_products, squared_norms

SCALES = ("raw", "unit", "clip")


@dataclass(frozen=True)
class Scaled(KnownRows):
    """Rows of others, each multiplied by its factor as it is read.

    ``squares`` are the ‖g‖² that are meant: scaled rows meet them up to rounding, and rows that are
    to be equally long must not be told apart by that.
    """

    whole: Rows
    factors: np.ndarray
    squares: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """The same."""
        return self.whole.shape

    @property
    def dtype(self) -> np.dtype:
        """The same."""
        return self.whole.dtype

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, which: Any) -> np.ndarray:
        rows = which[0] if isinstance(which, tuple) else which
        with np.errstate(invalid="ignore"):
            return self.whole[which] * self.factors[rows, None].astype(self.dtype)

    def known_squares(self) -> np.ndarray | None:
        """Those that are meant, n."""
        return self.squares

    def known_products(self) -> np.ndarray | None:
        """Their K, n × n, if that of the others is known."""
        known = known_products(self.whole)
        if known is None:
            return None
        with np.errstate(invalid="ignore"):
            scaled = known * np.outer(self.factors, self.factors)
        np.fill_diagonal(scaled, self.squares)
        return scaled


def rescale(gradients: Rows, scale: str, quantile: float, eligible: Sequence[int]) -> Rows:
    """Gradients n × d at the scale that selection sees, nothing read before it is asked for.

    ``unit`` divides each by its norm (zero rows stay zero), ``clip`` shrinks those above the
    ``quantile`` of the ``eligible`` rows' finite norms down to it.
    """
    if scale == "raw":
        return gradients
    norms = np.sqrt(squared_norms(gradients))
    if scale == "unit":
        target = np.where(norms > 0, 1.0, 0.0)
    else:
        known = norms[np.array(eligible, dtype=np.int64)]
        finite = known[np.isfinite(known)]
        target = np.minimum(norms, np.quantile(finite, quantile)) if len(finite) else norms
    with np.errstate(invalid="ignore"):  # rows that are not finite stay so, and are left out later
        factors = np.divide(target, norms, out=np.zeros_like(norms), where=norms > 0)
    return Scaled(gradients, factors, np.where(np.isfinite(norms), target**2, norms))


def weighted(gradients: Rows, weights: np.ndarray) -> Rows:
    """w_x ĝ_x of n × d gradients, ĝ = g/‖g‖: a row's information times its reliability.

    With w ≡ 1 that is the scale ``unit``. A row without direction, or of a weight that is no finite
    number above 0, becomes zero.
    """
    norms = np.sqrt(squared_norms(gradients))
    known = np.isfinite(norms) & (norms > 0)
    target = np.where(known & np.isfinite(weights) & (weights > 0), weights, 0.0)
    factors = np.divide(target, norms, out=np.zeros_like(norms), where=known)
    return Scaled(gradients, factors, np.where(np.isfinite(norms), target**2, norms))
