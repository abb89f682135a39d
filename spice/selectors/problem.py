"""What greedy is asked: the candidates among some gradients, and at which α they are taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from spice.errors import InputError
from spice.submodular.greedy import ETA
from spice.submodular.kernel import Rows, Subset, squared_norms

Alpha = float | Literal["relative"]


class Candidates(NamedTuple):
    """Positions ``rows`` (m) in the order of their ids, their ‖g‖² (m), and why others are none."""

    rows: np.ndarray
    squares: np.ndarray
    excluded: dict[str, list[int]]


def candidates(
    seen: Rows, ids: Sequence[str | int], eligible: Sequence[int], keep_zero: bool
) -> Candidates:
    """Those of the ``eligible`` rows of n × d gradients that are finite, and not zero.

    Zero ones are kept where ``keep_zero`` says so.
    """
    in_order = np.array(sorted(eligible, key=lambda row: ids[row]), dtype=np.int64)
    squares = squared_norms(Subset(seen, in_order))
    finite, zero = np.isfinite(squares), squares == 0
    usable = finite if keep_zero else finite & ~zero
    excluded = {"not finite": in_order[~finite].tolist()}
    excluded["zero gradient"] = [] if keep_zero else in_order[zero].tolist()
    return Candidates(in_order[usable], squares[usable], excluded)


def alpha_and_eta(alpha: Alpha, squares: np.ndarray) -> tuple[float, float]:
    """α and η, which follow the gradients' scale if α is relative; ``squares`` (m) are their ‖g‖².

    Raises:
        InputError: α‖g‖² of some gradient is too large for a float.
    """
    mean = float(squares.mean()) if len(squares) else 0.0
    relative = alpha == "relative"
    value = (1.0 / mean if mean > 0 else 1.0) if relative else float(alpha)
    if not math.isfinite(value * float(squares.max(initial=0.0))):
        raise InputError(f"selector.alpha={alpha}: α‖g‖² is too large for a float")
    return value, ETA / value if relative else ETA
