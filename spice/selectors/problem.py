"""What greedy is asked: the candidates among some gradients, at which α, and in how many parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from spice.errors import InputError
from spice.storage.disk import size
from spice.submodular.greedy import ETA
from spice.submodular.kernel import Rows, Subset, squared_norms
from spice.submodular.objective import held
from spice.submodular.partitions import PLENTY, SHARE, fewest, memory, peak

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


def parts_that_fit(n: int, k: int, form: str, maximizer: str) -> int:
    """As few parts as let k picks of n fit into a share of the memory; 1 for what always does.

    Raises:
        InputError: with no number of parts they fit into the whole of it.
    """

    def bytes_of(rows: int, picks: int) -> int:
        return held(rows, picks, form, maximizer)

    if bytes_of(n, k) <= PLENTY:
        return 1
    there = memory()
    count = fewest(n, k, bytes_of, int(SHARE * there))
    if (needed := peak(n, k, count, bytes_of)) > there:
        raise InputError(
            f"selector.partitions=auto: {k:,} picks of {n:,} rows take {size(needed)} in memory, "
            f"in {count} parts, and with any other number of them more; {size(there)} are there. "
            "Choose a smaller budget, or selector.partitions=1 to try all the same"
        )
    return count
