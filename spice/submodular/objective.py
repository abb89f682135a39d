"""One objective and the ways to maximise it: which of them is taken decides time and memory only.

    plain     a fresh solve per pick                                    to check the others by
    dual      K held whole or by columns, one more column of C per pick  pools of some thousand rows
    primal    the inverse of d × d, one rank-one update per pick         many picks of short rows
    lazy      one stale gain at a time                                   few of which come up at all
    blocked   many stale gains by one product of matrices                whole pools

The first three work in float64; for the precision of the others see
:mod:`spice.submodular.blocked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from spice.submodular.blocked import FEWEST, PER_PICK, blocked_greedy
from spice.submodular.certificate import (
    certificate,
    certificate_in_rooms,
    certificate_of_rounds,
)
from spice.submodular.fisher import (
    ConstantFisher,
    DiagonalFisher,
    DualFisher,
    Fisher,
    PlainFisher,
    PrimalFisher,
)
from spice.submodular.greedy import GreedyTrace, greedy
from spice.submodular.kernel import (
    Kernel,
    Rows,
    Subset,
    gram_kernel,
    known_products,
    streaming_kernel,
)
from spice.submodular.later import later_of_all
from spice.submodular.partitions import Partition
from spice.submodular.rooms import Rooms
from spice.submodular.state import FEW_ROWS
from spice.submodular.two_rounds import two_rounds

MAXIMIZERS = ("auto", "plain", "dual", "primal", "lazy", "blocked")
GRAM_ROWS = 12_000  # up to this many rows K is held whole: 1.15 GB in float64
WIDE = 16_384  # coordinates
LAZY: dict[str, dict[str, Any]] = {"lazy": {"size": 1, "block": 1}, "blocked": {}}


def way(maximizer: str, n: int, d: int, k: int) -> str:
    """What ``auto`` stands for with k picks of n × d.

    Few but wide rows go in blocks too: K costs so much there that a shortlist's alone pays.
    """
    if maximizer != "auto":
        return maximizer
    wide = d >= WIDE and n >= max(2 * PER_PICK * k, 2 * FEWEST)
    return "blocked" if n > FEW_ROWS or wide else "dual"


def held(n: int, k: int, form: str, maximizer: str) -> int:
    """Bytes of what k picks of n rows are made by, without the rows, which can stay on disk.

    Columns and factor, or K and columns; nothing for the ways that keep neither.
    """
    taken = way(maximizer, n, 0, k)
    if form != "exact" or taken == "primal":
        return 0
    if taken in LAZY:
        return 4 * k * (n + k)
    return 8 * n * (k + (n if n <= GRAM_ROWS else 0))


@dataclass(frozen=True)
class Objective:
    """Δ_x(S) − λ c(x|S) over n × d ``gradients``, whose ‖g‖² are ``squares``.

    ``form`` is one of :data:`spice.submodular.fisher.MODES`, ``maximizer`` one of
    :data:`MAXIMIZERS`; forms other than ``exact`` have one way of their own. Runs that are not to
    be ``certified`` save what that costs. ``rooms`` say how many picks groups of rows may have. A
    ``partition`` is gone through in two rounds.
    """

    gradients: Rows
    squares: np.ndarray
    alpha: float
    eta: float
    form: str
    maximizer: str
    certified: bool = True
    rooms: Rooms | None = None
    partition: Partition | None = None

    def way(self, k: int) -> str:
        """The maximiser that is taken for k picks."""
        if self.form != "exact":
            return self.maximizer
        n, d = self.gradients.shape
        known = known_products(self.gradients) is not None
        return way(self.maximizer, n, 0 if known else d, k)

    def maximise(
        self,
        k: int,
        penalty: float,
        *,
        stop_ratio: float | None = None,
        stop_inclusive: bool = False,
    ) -> GreedyTrace:
        """Pick up to k."""
        if self.partition is not None:
            stopping = {"stop_ratio": stop_ratio, "stop_inclusive": stop_inclusive}
            return two_rounds(self, self.partition, k, penalty, stopping)
        options: dict[str, Any] = {
            "penalty": penalty,
            "eta": self.eta,
            "stop_ratio": stop_ratio,
            "stop_inclusive": stop_inclusive,
            "rooms": self.rooms,
        }
        if self.form == "exact" and self.way(k) in LAZY:
            known: dict[str, Any] = {
                "alpha": self.alpha,
                "squares": self.squares,
                "certified": self.certified,
            }
            return blocked_greedy(self.gradients, k, **known, **LAZY[self.way(k)], **options)
        return greedy(self.kernel, self.fisher(k), k, **options)

    def among(self, where: np.ndarray) -> Objective:
        """The same for candidates ``where`` (m) alone: no certificate, and no parts."""
        return replace(
            self,
            gradients=Subset(self.gradients, where),
            squares=self.squares[where],
            rooms=None if self.rooms is None else self.rooms.among(where),
            certified=False,
            partition=None,
        )

    def bases(self) -> np.ndarray:
        """Δ_x(∅) of all x."""
        if self.form == "exact":
            return np.log1p(self.alpha * self.squares)
        return self.fisher(0).gains()

    def information(self, picks: Sequence[int]) -> float:
        """F(S) = log det(I + α K_SS) in nats, whatever the form."""
        chosen = np.asarray(self.gradients[np.array(picks, dtype=np.int64)], dtype=np.float64)
        return float(np.linalg.slogdet(np.eye(len(chosen)) + self.alpha * chosen @ chosen.T)[1])

    def certificate(self, trace: GreedyTrace, penalty: float) -> dict[str, Any] | None:
        """How far from the best k rows a run can be, if that was to be known."""
        if not self.certified or self.form != "exact":
            return None
        if trace.rounds is not None:
            later = later_of_all(self, trace.picks)
            return certificate_of_rounds(replace(trace, later=later), penalty, self.rooms)
        if self.rooms is not None:
            return certificate_in_rooms(trace, penalty)
        return certificate(trace, self.gradients, self.squares, self.alpha, penalty)

    @cached_property
    def kernel(self) -> Kernel:
        """K, whole where it fits, else its columns on demand."""
        if len(self.gradients) <= GRAM_ROWS:
            return gram_kernel(self.gradients, squares=self.squares)
        return streaming_kernel(self.gradients, squares=self.squares)

    @cached_property
    def _array(self) -> np.ndarray:
        return np.asarray(self.gradients[:])

    def fisher(self, k: int) -> Fisher:
        """The information at S = ∅, with room for k picks."""
        if self.form in {"scalar", "norm"}:
            return ConstantFisher(self.kernel, self.alpha, self.form)
        if self.form != "exact":
            return DiagonalFisher(self._array, self.kernel, self.alpha, self.form)
        if self.maximizer == "primal":
            return PrimalFisher(self._array, self.kernel, self.alpha)
        if self.maximizer == "plain":
            return PlainFisher(self.kernel, self.alpha)
        return DualFisher(self.kernel, k, self.alpha)
