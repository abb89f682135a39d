"""SPICE: greedy Fisher information with a penalty for conflicting gradients (arXiv 2601.23155)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np

from spice.errors import InputError, did_you_mean
from spice.records import Selection, Signals
from spice.selectors.fisher import MODES, information, make_fisher
from spice.selectors.greedy import ETA, GreedyTrace, greedy
from spice.selectors.kernel import Kernel, gram_kernel, streaming_kernel

GRAM_ROWS = 12_000  # up to this many rows K is held whole: 1.15 GB in float64

Alpha = float | Literal["relative"]


@dataclass(frozen=True)
class Spice:
    """Pick by Δ_x(S) − λ c(x|S); see :mod:`spice.selectors.greedy` for the formulas.

    ``fisher`` is the form of the information, one of :data:`spice.selectors.fisher.MODES`;
    ``information`` reports the exact F(S) of the picks for every form.
    ``penalty`` λ ≥ 0; ``alpha`` α > 0, or ``relative`` for α = 1/mean ‖g‖², which makes the choice
    independent of the gradients' scale. ``stop_ratio`` ω in [0, 1] stops at the first pick whose
    gain is at most ω times the first pick's (SPICE+); ``stop_inclusive`` keeps that pick. Rows
    whose gradient is zero are left out unless ``keep_zero``: they gain nothing, and yet a zero
    score beats a conflicting row's negative one.
    """

    penalty: float
    alpha: Alpha
    stop_ratio: float | None
    stop_inclusive: bool
    keep_zero: bool
    fisher: str
    needs: ClassVar[Mapping[str, Any]] = {"gradients": None}

    def __post_init__(self) -> None:
        if self.fisher not in MODES:
            hint = did_you_mean(str(self.fisher), MODES)
            raise InputError(f"selector.fisher={self.fisher}: one of {', '.join(MODES)}.{hint}")
        if not (_is_number(self.penalty) and self.penalty >= 0):
            raise InputError(f"selector.penalty={self.penalty}: must be a number of at least 0")
        if self.alpha != "relative" and not (_is_number(self.alpha) and self.alpha > 0):
            raise InputError(f"selector.alpha={self.alpha}: must be above 0, or 'relative'")
        if self.stop_ratio is not None and not (
            _is_number(self.stop_ratio) and 0 <= self.stop_ratio <= 1
        ):
            raise InputError(f"selector.stop_ratio={self.stop_ratio}: must be in [0, 1]")

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """Pick up to k of the eligible rows; ties go to the smaller id."""
        if signals.gradients is None:
            raise ValueError("this selector needs gradients")
        return self.select_gradients(signals.gradients, signals.ids, k, eligible)

    def select_gradients(
        self, gradients: np.ndarray, ids: Sequence[str | int], k: int, eligible: Sequence[int]
    ) -> Selection:
        """The same from gradients n × d alone.

        Rows are worked on in the order of their ids, so ties go to the smaller id and the order
        of the input changes nothing, to the bit.
        """
        in_order = np.array(sorted(eligible, key=lambda row: ids[row]), dtype=np.int64)
        squares = _squared_norms(gradients, in_order)
        finite, zero = np.isfinite(squares), squares == 0
        usable = finite if self.keep_zero else finite & ~zero
        excluded = {"not finite": in_order[~finite].tolist()}
        excluded["zero gradient"] = [] if self.keep_zero else in_order[zero].tolist()
        rows = in_order[usable]
        chosen_from = gradients[rows]
        kernel = make_kernel(chosen_from)
        alpha, eta = self._scale(kernel)

        def run(count: int, penalty: float, **stopping: Any) -> GreedyTrace:
            fisher = make_fisher(self.fisher, chosen_from, kernel, count, alpha)
            return greedy(kernel, fisher, count, penalty=penalty, eta=eta, **stopping)

        stopping = {"stop_ratio": self.stop_ratio, "stop_inclusive": self.stop_inclusive}
        trace = run(k, float(self.penalty), **stopping)
        # How many picks λ changed: the same count of picks, chosen again with λ = 0.
        plain = run(len(trace.picks), 0.0) if self.penalty else trace
        alone = make_fisher(self.fisher, chosen_from, kernel, 0, alpha).gains()
        selection = _selection(trace, kernel, rows, len(gradients), alone, alpha)
        if self.fisher != "exact":
            selection = replace(selection, information=information(kernel, trace.picks, alpha))
        return replace(
            selection,
            without_penalty=[int(rows[i]) for i in plain.picks] if self.penalty else None,
            excluded={why: sorted(which) for why, which in excluded.items() if which},
            trace={
                **selection.trace,
                "pool_conflict": _share_against_mean(chosen_from),
                "changed_by_penalty": len(set(trace.picks) - set(plain.picks)),
            },
        )

    def _scale(self, kernel: Kernel) -> tuple[float, float]:
        """α and η; both follow the gradients' scale if α is relative."""
        mean = float(kernel.diagonal.mean()) if len(kernel) else 0.0
        relative = self.alpha == "relative"
        alpha = (1.0 / mean if mean > 0 else 1.0) if relative else float(self.alpha)
        if not math.isfinite(alpha * float(kernel.diagonal.max(initial=0.0))):
            raise InputError(f"selector.alpha={self.alpha}: α‖g‖² is too large for a float")
        return alpha, ETA / alpha if relative else ETA


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _share_against_mean(gradients: np.ndarray, block: int = 1024) -> float:
    """The share of rows with g · ḡ < 0."""
    if not len(gradients):
        return 0.0
    total = gradients.sum(axis=0, dtype=np.float64)
    blocks = (gradients[i : i + block] for i in range(0, len(gradients), block))
    return sum(int(np.sum(part @ total < 0)) for part in blocks) / len(gradients)


def _squared_norms(gradients: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """‖g‖² of some rows, infinite where float64 does not reach that far."""
    with np.errstate(over="ignore"):
        each = (np.square(gradients[row], dtype=np.float64).sum() for row in rows)
        return np.fromiter(each, dtype=np.float64, count=len(rows))


def make_kernel(gradients: np.ndarray) -> Kernel:
    """The whole K where it fits, else its columns on demand."""
    small = len(gradients) <= GRAM_ROWS
    return gram_kernel(gradients) if small else streaming_kernel(gradients)


def _selection(
    trace: GreedyTrace,
    kernel: Kernel,
    rows: np.ndarray,
    n: int,
    alone: np.ndarray,
    alpha: float,
) -> Selection:
    bases = alone[trace.picks] if trace.picks else np.empty(0)
    gains = np.array(trace.gains)
    return Selection(
        n=n,
        indices=[int(rows[pick]) for pick in trace.picks],
        scores=trace.scores,
        gains=trace.gains,
        conflicts=trace.conflicts,
        bases=bases.tolist(),
        epsilons=np.minimum(gains - bases, 0.0).tolist(),
        information=float(gains.sum()),
        alpha=alpha,
        trace={
            "conflicting": trace.conflicting,
            "leverage": trace.leverage,
            "rows": rows,
            "squared_norms": kernel.diagonal,
        },
    )
